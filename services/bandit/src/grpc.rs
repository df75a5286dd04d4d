//! `attune.bandit.v1` over the bandit: convert, call, convert.

use crate::sample::{Bandit, Candidates, Slate};
use attune_decision::Slot;
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

/// A slot as the contract spells it: bit 0 exploration, bit 1 uniform draw.
fn slot_byte(slot: &Slot) -> u8 {
    u8::from(slot.exploration) | u8::from(slot.uniform) << 1
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
        Ok(Response::new(SampleResponse {
            items: chosen.picks.iter().map(|pick| candidates.items[*pick as usize]).collect(),
            scores: chosen.means,
            slots: chosen.slots.iter().map(slot_byte).collect::<Vec<u8>>().into(),
            uniform_ppm: (f64::from(self.bandit.policy().uniform) * 1e6).round() as u32,
            eligible: candidates.items.len() as u32,
            posteriors: current.posteriors.hash().to_vec().into(),
            digests: vec![chosen.sample_digest, chosen.slate_digest],
        }))
    }
}
