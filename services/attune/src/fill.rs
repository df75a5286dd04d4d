//! An empty state folder becomes a platform's: items, history, attributes and a trained bundle.

use crate::state::StateFolder;
use anyhow::Context as _;
use attune_dataset::{Dataset, Format, Source, World, WorldConfig, detect, import};
use attune_domain::{ItemIx, ItemUpdate, UnixMillis};
use attune_model::{Bundle, TrainConfig};
use attune_origin::log_records;
use attune_runtime::{Exit, OrExit as _};
use attune_storage::{EventLog, Topic};
use std::path::Path;

const BATCH: usize = 1000;
/// Visits each simulated user has made before the platform opens.
const SIMULATED_SESSIONS: u32 = 3;

/// Where an empty folder is filled from.
#[derive(Debug, Clone)]
pub(crate) enum Filling {
    /// An imported data set or a raw folder of a known format.
    Data(std::path::PathBuf),
    /// The simulated world of this seed.
    World { seed: u64 },
}

/// The world a state folder was filled from has its catalogue at a fixed time, so that seed and folder agree for ever.
pub(crate) fn world(seed: u64) -> anyhow::Result<World> {
    World::new(WorldConfig { seed, ..WorldConfig::default() }).or_exit(Exit::Usage)
}

/// Reads the data set under the state folder's key.
pub(crate) fn read(state: &StateFolder, filling: &Filling, now: UnixMillis) -> anyhow::Result<Dataset> {
    match filling {
        Filling::World { seed } => Ok(world(*seed)?.history(&state.subject_key()?, now, SIMULATED_SESSIONS)),
        Filling::Data(path) if Dataset::exists(path) => {
            adopt_key(state, path)?;
            let data = Dataset::load(path).or_exit(Exit::Data)?;
            data.check_key(&state.subject_key()?).or_exit(Exit::Data)?;
            Ok(data)
        }
        Filling::Data(path) => {
            let format = detect(path)
                .with_context(|| {
                    let formats: Vec<_> = Format::ALL.iter().map(|f| f.as_str()).collect();
                    format!("{} is neither a data set nor a folder of {}", path.display(), formats.join(", "))
                })
                .or_exit(Exit::Data)?;
            let source = Source { format, path: path.clone() };
            let progress = attune_dataset::BarProgress::default();
            let (data, report) = import(&source, &state.subject_key()?, &progress).or_exit(Exit::Data)?;
            crate::output::note(&report.to_string());
            if data.events.is_empty() {
                return Err(anyhow::anyhow!("{} holds no usable event", path.display())).or_exit(Exit::Data);
            }
            Ok(data)
        }
    }
}

/// A data set brings its own subject key; an empty folder takes it over.
fn adopt_key(state: &StateFolder, data: &Path) -> anyhow::Result<()> {
    let theirs = data.join("keys/subject.key");
    if !state.subject_key_path().exists() && theirs.exists() {
        let key = attune_identity::SubjectKey::load(&theirs).or_exit(Exit::Data)?;
        key.save(&state.subject_key_path()).or_exit(Exit::TryLater)?;
    }
    Ok(())
}

/// Trains a bundle where the folder has none.
pub(crate) fn train(state: &StateFolder, data: &Dataset, config: &TrainConfig) -> anyhow::Result<Bundle> {
    let fresh = state.bundles().join("training");
    let bundle = crate::train::train_to(data, &fresh, config, &attune_model::Bar::default())?;
    let version = bundle.version().to_string();
    std::fs::rename(&fresh, state.bundles().join(&version)).context("keep the bundle")?;
    state.choose_bundle(&version)?;
    Ok(bundle)
}

/// Writes items, attributes and history to the log. Run again after a crash, it goes on where it stopped.
pub(crate) async fn fill(log: &dyn EventLog, data: &Dataset, now: UnixMillis) -> anyhow::Result<()> {
    let accepted = log_records::Accepted { at: now, imported: true };
    let done = log.bounds(Topic::ItemUpdates).await?.end as usize;
    let updates: Vec<ItemUpdate> = data
        .items
        .iter()
        .enumerate()
        .skip(done)
        .map(|(ix, item)| ItemUpdate { ix: ItemIx(ix as u32), item: item.clone() })
        .collect();
    for batch in updates.chunks(BATCH) {
        log_records::append_items(log, batch, accepted, "").await.context("write items")?;
    }
    let stated: Vec<_> = data.users.iter().zip(&data.attributes).filter(|(_, a)| !a.0.is_empty()).collect();
    for batch in stated.chunks(BATCH) {
        let records = batch
            .iter()
            .map(|(uid, attributes)| (log_records::attributes_record(**uid, attributes, accepted, ""), None))
            .collect();
        log.append(Topic::UserUpdates, records).await.context("write attributes")?;
    }
    let bar = crate::output::progress_bar("filling the event log", data.events.len() as u64);
    for start in (0..data.events.len()).step_by(BATCH) {
        let end = (start + BATCH).min(data.events.len());
        let records = (start..end)
            .filter_map(|i| data.logged_event(i, now))
            .map(|event| (log_records::event_record(&event, ""), Some(log_records::dedup_key(&event))))
            .collect();
        log.append(Topic::UserEvents, records).await.context("write events")?;
        bar.set_position(end as u64);
    }
    bar.finish_and_clear();
    Ok(())
}
