//! A lake becomes a data set, or an empty state folder: then with its history as it was, event by event.
//!
//! Always holds: what comes from a lake is marked as imported, so it feeds histories and training, never trending,
//! posteriors or experiments; users keep their pseudonyms, so nothing is imported without the key they are made under.

use super::{ImportArgs, check_target, short};
use crate::output::{bad_data, bad_usage, note, print, print_json, progress_bar};
use crate::places;
use crate::state::StateFolder;
use anyhow::Context as _;
use attune_dataset::{Dataset, DatasetEvent, SlateSlot};
use attune_domain::{Context, LoggedEvent, RequestId, Uid};
use attune_identity::SubjectKey;
use attune_lake::tables::events::EventRow;
use attune_lake::{Contents, ImportReport, Lake, LakeError};
use attune_model::TrainConfig;
use attune_origin::log_records::{self, Accepted};
use attune_runtime::{Exit, Fatal, OrExit as _, system_clock};
use attune_storage::{EventLog, Topic};
use serde::Serialize;
use std::collections::HashMap;
use std::path::Path;

const BATCH: usize = 1000;

#[derive(Serialize)]
struct Outcome<'a> {
    #[serde(flatten)]
    report: &'a ImportReport,
    dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_version: Option<String>,
    key_fingerprint: &'a str,
}

pub(super) fn run(args: &ImportArgs) -> anyhow::Result<()> {
    let lake = Lake::open(&args.source).map_err(refused)?;
    let parts = lake.manifest().parts().count() as u64;
    let bar = progress_bar("reading the lake", parts);
    let read = attune_lake::import(&lake, |done| bar.set_position(done)).map_err(refused);
    bar.finish_and_clear();
    let (contents, report) = read?;
    let usable = !contents.events.is_empty() && !contents.catalogue.is_empty();

    let (mut hash, mut model_version) = (None, None);
    if usable && !args.dry_run {
        match (&args.to, &args.state) {
            (Some(to), _) => hash = Some(save(args, to, &contents)?),
            (None, Some(state)) => model_version = Some(fill(args, state, &contents)?),
            (None, None) => return Err(bad_usage("name a folder with --to or --state")),
        }
    }
    if args.json {
        print_json(&Outcome {
            report: &report,
            dry_run: args.dry_run,
            to: args.to.as_deref().filter(|_| hash.is_some()),
            hash,
            state: args.state.as_deref().filter(|_| model_version.is_some()),
            model_version,
            key_fingerprint: &contents.key_fingerprint,
        })?;
    } else {
        print(&report.to_string())?;
        match (&hash, &model_version, &args.to, &args.state) {
            (Some(hash), _, Some(to), _) => print(&format!("data set {} in {}", short(hash), to.display()))?,
            (_, Some(model), _, Some(state)) => print(&format!("state folder {} with model {model}", state.display()))?,
            _ if usable => note("dry run: nothing was written"),
            _ => {}
        }
    }
    if usable {
        return Ok(());
    }
    Err(bad_data(format!(
        "{} has no usable event: {} of {} rows rejected",
        args.source.display(),
        report.rejected_total(),
        report.rows_read()
    )))
}

pub(crate) fn refused(error: LakeError) -> anyhow::Error {
    let exit = Exit::from_code(error.exit_code()).unwrap_or(Exit::Internal);
    Fatal::new(exit, error).into()
}

/// The key that the lake's users are pseudonyms under; it is to be kept at `own`, where it may be already.
fn key(args: &ImportArgs, own: &Path, contents: &Contents) -> anyhow::Result<SubjectKey> {
    let place = match &args.subject_key {
        Some(path) => path.as_path(),
        None if own.exists() => own,
        None => {
            return Err(bad_usage(format!(
                "the lake's users are pseudonyms under subject key {}: name its file with --subject-key",
                contents.key_fingerprint
            )));
        }
    };
    let key = SubjectKey::load(place).or_exit(Exit::Data)?;
    if key.fingerprint() != contents.key_fingerprint {
        let (found, expected) = (contents.key_fingerprint.clone(), key.fingerprint());
        return Err(refused(LakeError::OtherKey { found, expected }));
    }
    Ok(key)
}

fn save(args: &ImportArgs, to: &Path, contents: &Contents) -> anyhow::Result<String> {
    let own = to.join("keys/subject.key");
    let key = key(args, &own, contents)?;
    check_target(to, Some(&key))?;
    if !own.exists() {
        key.save(&own).context("keep the subject key")?;
    }
    let data = dataset(contents);
    data.save(to).context("save the data set")?;
    Ok(data.hash())
}

/// Gives the version of the model that was trained.
fn fill(args: &ImportArgs, root: &Path, contents: &Contents) -> anyhow::Result<String> {
    let state = StateFolder::open(root)?;
    if state.filled_marker().exists() {
        return Err(bad_usage(format!("{} is filled already; choose another --state", root.display())));
    }
    // A folder in which another filling stopped half-way holds other records.
    let (filling, mark) = (state.root().join("FILLING"), "parquet\n");
    if filling.exists() && std::fs::read_to_string(&filling).unwrap_or_default() != mark {
        return Err(bad_usage(format!("{} is being filled from elsewhere; choose another --state", root.display())));
    }
    let key = key(args, &state.subject_key_path(), contents)?;
    if !state.subject_key_path().exists() {
        key.save(&state.subject_key_path()).or_exit(Exit::TryLater)?;
    }
    std::fs::write(&filling, mark).context("write FILLING").or_exit(Exit::TryLater)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let log = runtime.block_on(places::stopped_event_log(&state))?;
    if state.bundle().is_none() {
        let created_at = (system_clock())();
        crate::fill::train(&state, &dataset(contents), &TrainConfig { created_at, ..TrainConfig::default() })?;
    }
    runtime.block_on(write(&*log, contents))?;
    std::fs::write(state.filled_marker(), "data\n").context("write FILLED").or_exit(Exit::TryLater)?;
    std::fs::remove_file(&filling).context("remove FILLING").or_exit(Exit::TryLater)?;
    let live = state.bundle().and_then(|folder| Some(folder.file_name()?.to_string_lossy().into_owned()));
    live.context("find the model that was trained")
}

/// Run again after a crash, it goes on where it stopped.
async fn write(log: &dyn EventLog, contents: &Contents) -> anyhow::Result<()> {
    let done = log.bounds(Topic::ItemUpdates).await.context("read the event log")?.end as usize;
    for batch in contents.items.get(done..).unwrap_or_default().chunks(BATCH) {
        let record = |row: &attune_lake::tables::items::ItemRow| {
            let accepted = Accepted { at: row.accepted_at, imported: true };
            (log_records::item_record(&row.update, accepted, ""), None)
        };
        log.append(Topic::ItemUpdates, batch.iter().map(record).collect()).await.context("write items")?;
    }
    for batch in contents.users.chunks(BATCH) {
        let record = |row: &attune_lake::tables::users::UserRow| {
            let accepted = Accepted { at: row.accepted_at, imported: true };
            (log_records::attributes_record(row.uid, &row.attributes, accepted, ""), None)
        };
        log.append(Topic::UserUpdates, batch.iter().map(record).collect()).await.context("write attributes")?;
    }
    let bar = progress_bar("filling the event log", contents.events.len() as u64);
    for (batch, events) in contents.events.chunks(BATCH).enumerate() {
        let record = |row: &EventRow| {
            let event = LoggedEvent { imported: true, in_decision: false, decided: None, ..row.event.clone() };
            (log_records::event_record(&event, ""), Some(log_records::dedup_key(&event)))
        };
        log.append(Topic::UserEvents, events.iter().map(record).collect()).await.context("write events")?;
        bar.set_position(((batch + 1) * BATCH) as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

/// What training reads. An event about an item that was never in the catalogue teaches nothing.
fn dataset(contents: &Contents) -> Dataset {
    let mut users: HashMap<Uid, u32> = HashMap::new();
    let mut slates: HashMap<RequestId, u32> = HashMap::new();
    let mut data = Dataset {
        items: contents.catalogue.clone(),
        key_fingerprint: contents.key_fingerprint.clone(),
        name: "lake".to_owned(),
        ..Dataset::default()
    };
    let mut number = |uid: Uid, data: &mut Dataset| {
        *users.entry(uid).or_insert_with(|| {
            data.users.push(uid);
            data.attributes.push(Default::default());
            data.users.len() as u32 - 1
        })
    };
    for row in &contents.events {
        let event = &row.event;
        if !event.item.is_known() {
            continue;
        }
        let user = number(event.uid, &mut data);
        let position = event.position.and_then(|position| u8::try_from(position).ok());
        let slate = event.request_id.zip(position).map(|(request, position)| {
            let next = slates.len() as u32;
            SlateSlot { slate: *slates.entry(request).or_insert(next), position }
        });
        data.events.push(DatasetEvent {
            user,
            item: event.item,
            kind: event.kind,
            occurred_at: event.occurred_at,
            value: event.value,
            slate,
            context: Context::DEFAULT,
        });
    }
    for row in &contents.users {
        let user = number(row.uid, &mut data);
        data.attributes[user as usize] = row.attributes.clone();
    }
    data.events.sort_by_key(|event| event.occurred_at);
    data
}
