//! The services a page is assembled from.

use attune_proto::bandit::v1::bandit_service_client::BanditServiceClient;
use attune_proto::llm::v1::llm_service_client::LlmServiceClient;
use attune_proto::ranking::v1::ranking_service_client::RankingServiceClient;
use attune_proto::retrieval::v1::retrieval_service_client::RetrievalServiceClient;
use attune_rpc::Channel;

#[derive(Clone)]
pub struct Clients {
    pub retrieval: RetrievalServiceClient<Channel>,
    pub ranking: RankingServiceClient<Channel>,
    pub bandit: BanditServiceClient<Channel>,
    pub llm: LlmServiceClient<Channel>,
}

impl Clients {
    pub fn new(retrieval: Channel, ranking: Channel, bandit: Channel, llm: Channel) -> Self {
        Self {
            retrieval: RetrievalServiceClient::new(retrieval),
            ranking: RankingServiceClient::new(ranking),
            bandit: BanditServiceClient::new(bandit),
            llm: LlmServiceClient::new(llm),
        }
    }
}
