//! `attune.bandit.v1` over the bandit: convert, call, convert.

use crate::sample::{Bandit, Candidates, Slate};
use attune_decision::pack_slots;
use attune_proto::bandit::v1::bandit_service_server::BanditService;
use attune_proto::bandit::v1::{SampleRequest, SampleResponse};
use attune_telemetry::Scope;
use std::sync::Arc;
use tonic::{Request, Response, Status};

#[derive(Clone)]
pub struct BanditGrpc {
    bandit: Arc<Bandit>,
}

impl BanditGrpc {
    pub fn new(bandit: Arc<Bandit>) -> Self {
        Self { bandit }
    }
}

#[tonic::async_trait]
impl BanditService for BanditGrpc {
    async fn sample(&self, request: Request<SampleRequest>) -> Result<Response<SampleResponse>, Status> {
        let scope = Scope::of(&request);
        let request = request.into_inner();
        let candidates = Candidates {
            seed: request.seed,
            limit: request.limit as usize,
            items: request.items,
            scores: request.scores,
        };
        let Slate { chosen, current } = self.bandit.sample(&scope, &request.model_version, &candidates)?;
        let posteriors = current.posteriors.hash();
        let is_known = request.known_posteriors[..] == posteriors;
        Ok(Response::new(SampleResponse {
            slots: pack_slots(&chosen.slots).into(),
            picks: chosen.picks,
            means: chosen.means,
            sample_digest: chosen.sample_digest,
            slate_digest: chosen.slate_digest,
            policy: self.bandit.policy().to_array().to_vec(),
            posteriors: posteriors.to_vec().into(),
            posteriors_content: if is_known { Default::default() } else { current.encoded.clone() },
        }))
    }
}
