//! A platform as a lake's source: what `attune replay` reads of it, read for every decision.

use crate::replay::{Found, MaterialsCache, Source};
use async_trait::async_trait;
use attune_decision::DecisionRecord;
use attune_domain::{RequestId, UnixMillis, UserState};
use attune_lake::{LakeError, LakeSource};
use attune_proto::{convert, state::v1 as wire};
use attune_serving::Serving;
use attune_storage::EventLog;
use prost::Message as _;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Asked for at first; then four times as many, until they reach back far enough.
const LISTED: usize = 10_000;
/// Catalogues in memory at once.
const CATALOGUES: usize = 8;

pub(super) struct Platform {
    source: Source,
    cache: Mutex<MaterialsCache>,
}

impl Platform {
    pub(super) fn new(source: Source) -> Self {
        Self { source, cache: Mutex::default() }
    }
}

fn failed(what: &'static str) -> impl FnOnce(anyhow::Error) -> LakeError {
    move |error| LakeError::Source(what, error.into())
}

#[async_trait]
impl LakeSource for Platform {
    fn log(&self) -> &dyn EventLog {
        self.source.event_log()
    }

    async fn decisions_since(&self, from: UnixMillis) -> Result<Vec<RequestId>, LakeError> {
        let most = self.source.most_listed().unwrap_or(usize::MAX);
        let mut asked = LISTED.min(most);
        loop {
            let mut ids = self.source.recent(asked).await.map_err(failed("decisions"))?;
            let all = ids.len() < asked || ids.last().is_some_and(|oldest| oldest.unix_millis() < from);
            if all {
                ids.retain(|id| id.unix_millis() >= from);
                return Ok(ids);
            }
            if asked == most {
                let message = format!("a running platform lists its newest {most} only: stop it and name its --state");
                return Err(failed("decisions")(anyhow::Error::msg(message)));
            }
            asked = asked.saturating_mul(4).min(most);
        }
    }

    async fn decision(&self, id: RequestId) -> Result<Option<DecisionRecord>, LakeError> {
        Ok(match self.source.decision(id).await.map_err(failed("decision log"))? {
            Found::Record(record) => Some(*record),
            Found::Erased | Found::Unknown => None,
        })
    }

    async fn state(&self, hash: &[u8]) -> Result<Option<UserState>, LakeError> {
        if hash.is_empty() {
            return Ok(None);
        }
        let Some(bytes) = self.source.object(hash).await.map_err(failed("state of a decision"))? else {
            return Ok(None);
        };
        Ok(wire::UserState::decode(bytes).ok().and_then(|state| convert::user_state(Some(&state)).ok()))
    }

    async fn serving(&self, model: u64, catalogue_offset: u64) -> Result<Option<Arc<Serving>>, LakeError> {
        let mut cache = self.cache.lock().await;
        cache.bound(CATALOGUES);
        let found = self.source.serving(model, catalogue_offset, &mut cache).await;
        Ok(found.map_err(failed("model of a decision"))?.ok().map(|(serving, _)| serving))
    }
}
