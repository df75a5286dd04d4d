//! Where records and what they name come from: the folder of a stopped platform, or a running one.

use super::check::Materials;
use crate::about::About;
use crate::places;
use crate::settings::Tables;
use crate::state::StateFolder;
use anyhow::Context as _;
use attune_decision::{DecisionRecord, Posteriors, ScoredItems, Stage, decode_record};
use attune_domain::{RequestId, UserState};
use attune_model::Bundle;
use attune_proto::origin::v1 as origin;
use attune_proto::origin::v1::origin_service_client::OriginServiceClient;
use attune_proto::{convert, state::v1 as wire};
use attune_retrieval::RetrievalConfig;
use attune_retrieval::index::VectorIndex;
use attune_runtime::{Exit, OrExit as _};
use attune_serving::{Serving, replay_catalogue};
use attune_storage::{Decision, DecisionLog, EmbeddedDecisionLog, EventLog, ObjectHash, RemoteEventLog};
use bytes::Bytes;
use prost::Message as _;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

const TIMEOUT: Duration = Duration::from_secs(10);

enum Logs {
    Stopped(EmbeddedDecisionLog),
    Running(OriginServiceClient<Channel>),
}

/// A platform's decisions, and what they refer to.
pub struct Source {
    logs: Logs,
    event_log: Arc<dyn EventLog>,
    bundles: PathBuf,
    index_snapshots: Option<PathBuf>,
    retrieval: RetrievalConfig,
}

/// What the decision log says about a request id.
pub enum Found {
    Record(Box<DecisionRecord>),
    Erased,
    Unknown,
}

/// Bundles, catalogues and indices that several decisions share.
#[derive(Default)]
pub struct MaterialsCache {
    bundles: HashMap<u64, (Arc<Bundle>, Vec<String>)>,
    servings: HashMap<(u64, u64), Arc<Serving>>,
    indices: HashMap<(u64, u64), Vec<Arc<VectorIndex>>>,
}

impl MaterialsCache {
    /// Lets go of everything once that many catalogues were kept.
    pub(crate) fn bound(&mut self, catalogues: usize) {
        if self.servings.len() > catalogues {
            *self = Self::default();
        }
    }
}

impl Source {
    /// The folder of a platform that does not run.
    pub async fn of_folder(dir: &Path) -> anyhow::Result<Self> {
        Self::stopped(&StateFolder::reopen(dir)?).await
    }

    async fn stopped(state: &StateFolder) -> anyhow::Result<Self> {
        let open = |what: &str| format!("open {what}; a running platform is asked with --edge");
        let decisions = EmbeddedDecisionLog::open(&state.decision_log())
            .with_context(|| open("the decision log"))
            .or_exit(Exit::TryLater)?;
        let event_log = places::stopped_event_log(state).await?;
        Ok(Self {
            logs: Logs::Stopped(decisions),
            event_log,
            bundles: state.bundles(),
            index_snapshots: Some(state.index()),
            retrieval: Tables::read(None)?.settings()?.retrieval,
        })
    }

    /// Asks the edge where its origin and its bundle are.
    pub(crate) async fn running(edge: &str) -> anyhow::Result<Self> {
        Self::of_about(&About::ask(edge).await?)
    }

    pub(crate) fn of_about(about: &About) -> anyhow::Result<Self> {
        let channel = Endpoint::from_shared(about.origin.clone()).context("read the origin's address")?.connect_lazy();
        let bundles = about.bundle.parent().map(PathBuf::from).unwrap_or_default();
        Ok(Self {
            logs: Logs::Running(OriginServiceClient::new(channel.clone()).max_decoding_message_size(64 << 20)),
            event_log: Arc::new(RemoteEventLog::new(channel, TIMEOUT)),
            index_snapshots: bundles.parent().map(|state| state.join("index")),
            bundles,
            retrieval: Tables::read(None)?.settings()?.retrieval,
        })
    }

    pub async fn recent(&self, max: usize) -> anyhow::Result<Vec<RequestId>> {
        match &self.logs {
            Logs::Stopped(log) => log.recent(max).await.context("read the decision log"),
            Logs::Running(client) => {
                let request = origin::ListDecisionsRequest { max: max as u32 };
                let answer = client.clone().list_decisions(request).await.context("ask the origin")?.into_inner();
                Ok(answer.request_ids.iter().filter_map(|id| RequestId::from_slice(id)).collect())
            }
        }
    }

    pub async fn decision(&self, id: RequestId) -> anyhow::Result<Found> {
        let bytes = match &self.logs {
            Logs::Stopped(log) => match log.get(id).await.context("read the decision log")? {
                Decision::Found(bytes) => bytes,
                Decision::Erased => return Ok(Found::Erased),
                Decision::Unknown => return Ok(Found::Unknown),
            },
            Logs::Running(client) => {
                let request = origin::GetDecisionRequest { request_id: Bytes::copy_from_slice(&id.0) };
                match client.clone().get_decision(request).await {
                    Ok(answer) if answer.get_ref().erased => return Ok(Found::Erased),
                    Ok(answer) => answer.into_inner().record,
                    Err(status) if status.code() == tonic::Code::NotFound => return Ok(Found::Unknown),
                    Err(status) => return Err(status).context("ask the origin"),
                }
            }
        };
        let record = decode_record(bytes).context("read the decision record").or_exit(Exit::Data)?;
        Ok(Found::Record(Box::new(record)))
    }

    pub(crate) async fn object(&self, hash: &[u8]) -> anyhow::Result<Option<Bytes>> {
        let Some(hash) = ObjectHash::from_slice(hash) else { return Ok(None) };
        if hash == ObjectHash::of(&[]) {
            return Ok(Some(Bytes::new()));
        }
        match &self.logs {
            Logs::Stopped(log) => log.object(hash).await.context("read an object"),
            Logs::Running(client) => {
                let request = origin::GetObjectRequest { hash: Bytes::copy_from_slice(&hash.0) };
                match client.clone().get_object(request).await {
                    Ok(answer) => Ok(Some(answer.into_inner().content)),
                    Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
                    Err(status) => Err(status).context("ask the origin"),
                }
            }
        }
    }

    /// Everything the record names. The inner error says what is not there any more.
    pub async fn materials(
        &self,
        record: &DecisionRecord,
        cache: &mut MaterialsCache,
    ) -> anyhow::Result<Result<Materials, String>> {
        let mut damaged = Vec::new();
        let (serving, sections) = match self.serving(record.model, record.catalogue_offset, cache).await? {
            Ok(found) => found,
            Err(missing) => return Ok(Err(missing)),
        };
        let index = self.index(record, &serving, cache);

        let mut named = Vec::new();
        for (what, hash, stage) in [
            ("the user's state", &record.state, Stage::Context),
            ("the own list", &record.own, Stage::Candidates),
            ("the candidate set", &record.candidates, Stage::Candidates),
            ("the posteriors", &record.posteriors, Stage::Sample),
        ] {
            if hash.is_empty() {
                named.push(Bytes::new());
                continue;
            }
            let Some(content) = self.object(hash).await? else {
                return Ok(Err(format!("{what} is not in the log any more")));
            };
            if ObjectHash::of(&content).0[..] != hash[..] {
                damaged.push((stage, format!("{what} is not what was written")));
            }
            named.push(content);
        }
        let scored = |bytes: &Bytes| {
            wire::ScoredItems::decode(&bytes[..]).ok().and_then(|s| ScoredItems::try_from(&s).ok()).unwrap_or_default()
        };
        let state = wire::UserState::decode(&named[0][..]).ok().and_then(|s| convert::user_state(Some(&s)).ok());
        let snapshot = wire::PosteriorSnapshot::decode(&named[3][..]).ok();
        let snapshot = snapshot.and_then(|s| convert::posterior_snapshot(&s).ok()).unwrap_or_default();
        let mut hash = [0; 16];
        if record.posteriors.len() == hash.len() {
            hash.copy_from_slice(&record.posteriors);
        }
        Ok(Ok(Materials {
            state: state.unwrap_or_else(UserState::default),
            own: scored(&named[1]),
            candidates: scored(&named[2]),
            posteriors: Posteriors::new(&snapshot, hash),
            index,
            damaged: damaged.into_iter().map(|(stage, what)| (stage, with_sections(what, &sections))).collect(),
            serving,
        }))
    }

    /// The bundle over the catalogue of that moment, and damaged sections of the bundle. The inner error says what is
    /// not there any more.
    pub(crate) async fn serving(
        &self,
        model: u64,
        catalogue_offset: u64,
        cache: &mut MaterialsCache,
    ) -> anyhow::Result<Result<(Arc<Serving>, Vec<String>), String>> {
        let (bundle, sections) = match cache.bundles.get(&model) {
            Some(loaded) => loaded.clone(),
            None => {
                let folder = self.bundles.join(format!("{model:016x}"));
                let Ok((bundle, sections)) = Bundle::load_unchecked_sections(&folder) else {
                    return Ok(Err(format!("bundle {model:016x} cannot be read")));
                };
                let loaded = (Arc::new(bundle), sections);
                cache.bundles.insert(model, loaded.clone());
                loaded
            }
        };
        let key = (model, catalogue_offset);
        if let Some(serving) = cache.servings.get(&key) {
            return Ok(Ok((Arc::clone(serving), sections)));
        }
        let catalogue = replay_catalogue(&*self.event_log, catalogue_offset).await;
        let catalogue = catalogue.context("read the catalogue of that moment")?;
        let serving = Arc::new(Serving::new(bundle, catalogue).or_exit(Exit::Data)?);
        cache.servings.insert(key, Arc::clone(&serving));
        Ok(Ok((serving, sections)))
    }

    pub(crate) fn event_log(&self) -> &dyn EventLog {
        &*self.event_log
    }

    /// The folder of bundles; the platform's state folder is around it.
    pub(crate) fn bundles(&self) -> &Path {
        &self.bundles
    }

    /// A running platform lists so many at most.
    pub(crate) const fn most_listed(&self) -> Option<usize> {
        match self.logs {
            Logs::Stopped(_) => None,
            Logs::Running(_) => Some(attune_origin::MAX_LISTED),
        }
    }

    /// The index generation the record names: that of the snapshot, or one built again from the item table.
    fn index(
        &self,
        record: &DecisionRecord,
        serving: &Serving,
        cache: &mut MaterialsCache,
    ) -> Option<Arc<VectorIndex>> {
        if record.index.is_empty() {
            return None;
        }
        let known = cache.indices.entry((record.model, record.catalogue_offset)).or_default();
        let is_it = |index: &Arc<VectorIndex>| index.pin().hash()[..] == record.index[..];
        if let Some(index) = known.iter().find(|index| is_it(index)) {
            return Some(Arc::clone(index));
        }
        if known.is_empty() {
            let (dim, vectors) = (serving.items.dim(), serving.items.vectors());
            let config = self.retrieval.index();
            let file = self.index_snapshots.as_ref().map(|dir| dir.join(format!("{}.index", serving.bundle.version())));
            if let Some(index) = file.and_then(|file| VectorIndex::load(&file, config.clone()).ok())
                && index.dim() == dim
                && index.reconcile(vectors).is_ok()
            {
                known.push(Arc::new(index));
            }
            // A young platform searches exactly until its first graph is there.
            if let Ok(index) = VectorIndex::seeded(dim, config, vectors) {
                known.push(Arc::new(index));
            }
        }
        known.iter().find(|index| is_it(index)).map(Arc::clone)
    }
}

fn with_sections(what: String, sections: &[String]) -> String {
    if sections.is_empty() { what } else { format!("{what}; damaged sections of the bundle: {}", sections.join(", ")) }
}
