//! `attune.ranking.v1` over the ranker: convert, call, convert.

use crate::rank::{Ranker, Viewer};
use attune_domain::ItemIx;
use attune_proto::convert::{self, WireError};
use attune_proto::ranking::v1 as wire;
use attune_proto::ranking::v1::ranking_service_server::RankingService;
use attune_proto::state::v1 as state;
use attune_telemetry::Scope;
use std::sync::Arc;
use tonic::{Request, Response, Status};

#[derive(Clone)]
pub struct RankingGrpc {
    ranker: Arc<Ranker>,
}

impl RankingGrpc {
    pub fn new(ranker: Arc<Ranker>) -> Self {
        Self { ranker }
    }
}

fn viewer(user: Option<state::UserState>, context: Option<state::Context>, now: i64) -> Result<Viewer, WireError> {
    // A visitor never seen may come without a state.
    let state = user.map_or_else(|| Ok(Default::default()), |user| convert::user_state(Some(&user)))?;
    Ok(Viewer { state, context: convert::context(context.as_ref())?, now })
}

#[tonic::async_trait]
impl RankingService for RankingGrpc {
    async fn rank(&self, request: Request<wire::RankRequest>) -> Result<Response<wire::RankResponse>, Status> {
        let scope = Scope::of(&request);
        let request = request.into_inner();
        let viewer = viewer(request.user, request.context, request.now)?;
        let items = request.items.into_iter().map(ItemIx).collect();
        let (scores, version) = self.ranker.rank(&scope, &request.model_version, viewer, items).await?;
        Ok(Response::new(wire::RankResponse {
            click: scores.click,
            conversion: scores.conversion.unwrap_or_default(),
            dwell: scores.dwell.unwrap_or_default(),
            model_version: version.to_string(),
        }))
    }

    async fn attribute(
        &self,
        request: Request<wire::AttributeRequest>,
    ) -> Result<Response<wire::AttributeResponse>, Status> {
        let scope = Scope::of(&request);
        let request = request.into_inner();
        let viewer = viewer(request.user, request.context, request.now)?;
        let (contributions, score) =
            self.ranker.attribute(&scope, &request.model_version, viewer, ItemIx(request.item)).await?;
        let contribution = |c: attune_model::Contribution| wire::Contribution {
            group: c.group.as_str().to_owned(),
            logit: c.logit,
            evidence: c.evidence.into_iter().map(|item| item.0).collect(),
        };
        let contributions = contributions.into_iter().map(contribution).collect();
        Ok(Response::new(wire::AttributeResponse { contributions, score }))
    }
}
