//! One decision again: the stages in order, each held against its digest.

use attune_decision::{
    Choice, Decided, DecisionRecord, Digest, Outcome, Path, Policy, Posteriors, Sampler, ScoredItems, Scratch,
    SourceKind, Stage, choose, digest_of, favourites,
};
use attune_domain::{Context, ItemIx, Level, UserState};
use attune_edge::{Candidates, HitInputs, decide};
use attune_model::UserInput;
use attune_origin::{MissInputs, asked_of_sources, line_scores, miss_candidates, source_items, unseen_of_source};
use attune_proto::convert;
use attune_retrieval::index::VectorIndex;
use attune_serving::Serving;
use std::sync::Arc;

/// Everything a decision read that is not in its record.
pub struct Materials {
    /// The bundle and the catalogue of that moment.
    pub serving: Arc<Serving>,
    pub state: UserState,
    pub own: ScoredItems,
    pub candidates: ScoredItems,
    pub posteriors: Posteriors,
    /// The generation of the vector index that was searched, where it could be built again.
    pub index: Option<Arc<VectorIndex>>,
    /// Stages whose inputs are not what was written, with what is wrong.
    pub damaged: Vec<(Stage, String)>,
}

/// The first stage that does not come out as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub stage: Stage,
    pub detail: String,
}

/// Runs the decision again; `None` where every stage and the answer come out as recorded.
pub fn check(record: &DecisionRecord, materials: &Materials) -> Option<Difference> {
    let damaged = materials.damaged.iter().min_by_key(|(stage, _)| *stage);
    let differs = match run(record, materials) {
        Err(difference) => Some(difference),
        Ok(decided) => compare(record, &decided),
    };
    match (differs, damaged) {
        (Some(found), Some((stage, what))) if *stage <= found.stage => {
            Some(Difference { stage: *stage, detail: what.clone() })
        }
        (None, Some((stage, what))) => Some(Difference { stage: *stage, detail: what.clone() }),
        (found, _) => found,
    }
}

/// The decision under another seed: what else the visitor could have been shown.
pub fn redraw(record: &DecisionRecord, materials: &Materials, seed: u64) -> Option<Decided> {
    run(&DecisionRecord { seed, ..record.clone() }, materials).ok()
}

fn compare(record: &DecisionRecord, decided: &Decided) -> Option<Difference> {
    for stage in Stage::ALL {
        let recorded = digest_of(record, stage);
        let computed = Some(decided.digests[stage as usize]).filter(|&digest| digest != 0);
        if recorded != computed {
            let show = |digest: Option<u64>| digest.map_or("did not run".to_owned(), |d| format!("{d:016x}"));
            let detail = format!("recorded {}, computed {}", show(recorded), show(computed));
            return Some(Difference { stage, detail });
        }
    }
    if record.items != decided.items {
        let detail = "the recorded answer is not the one its digest was made of".to_owned();
        return Some(Difference { stage: Stage::Slate, detail });
    }
    None
}

fn run(record: &DecisionRecord, materials: &Materials) -> Result<Decided, Difference> {
    let malformed =
        |what: &str| Difference { stage: Stage::Context, detail: format!("the record's {what} is malformed") };
    let context = convert::context(record.context.as_ref()).map_err(|_| malformed("context"))?;
    match Path::from_code(record.path).ok_or_else(|| malformed("path"))? {
        Path::Hit => hit(record, materials, context),
        Path::Miss => miss(record, materials, context),
        Path::Favourites => Ok(favourites_again(record, materials)),
    }
}

fn policy(record: &DecisionRecord) -> Result<Policy, Difference> {
    Policy::from_array(&record.policy)
        .ok_or_else(|| Difference { stage: Stage::Sample, detail: "the record's policy is malformed".to_owned() })
}

fn hit(record: &DecisionRecord, materials: &Materials, context: Context) -> Result<Decided, Difference> {
    let serving = &materials.serving;
    let mut window_vector = vec![0.0; serving.bundle.dim()];
    let state = &materials.state;
    serving.bundle.window_vector(&serving.items, &state.window, &state.attributes, &mut window_vector);
    Ok(decide(&HitInputs {
        serving,
        posteriors: &materials.posteriors,
        policy: &policy(record)?,
        window_vector: &window_vector,
        candidates: &Candidates::new(serving, state, &window_vector, &materials.own, &materials.candidates),
        context,
        limit: record.limit as usize,
        seed: record.seed,
    }))
}

fn favourites_again(record: &DecisionRecord, materials: &Materials) -> Decided {
    let serving = &materials.serving;
    let cohorts = serving.bundle.cohorts();
    let limit = record.limit as usize;
    if record.level == u32::from(Level::Static.code()) {
        return favourites(cohorts.static_list(), limit, |item| serving.is_available(item));
    }
    let unseen = |item: ItemIx| serving.is_available(item) && !materials.state.window.has_seen(item);
    favourites(cohorts.global_favourites(), limit, unseen)
}

fn miss(record: &DecisionRecord, materials: &Materials, context: Context) -> Result<Decided, Difference> {
    let serving = &materials.serving;
    let state = &materials.state;
    let input = UserInput { window: &state.window, attributes: &state.attributes, context, now: record.now };
    let user_vector = serving.bundle.user_vector(&serving.items, &input);
    let mut digests = [0; Stage::ALL.len()];
    digests[Stage::Context as usize] = Digest::default().f32s(&user_vector).finish();

    let raw: Vec<_> = record.sources.iter().map(|s| (s.source, s.outcome, &s.items[..])).collect();
    let sources = source_items(&raw)
        .map_err(|e| Difference { stage: Stage::Candidates, detail: format!("the record's sources: {e}") })?;
    let searched = sources.iter().any(|s| s.source == SourceKind::Neighbours && s.outcome == Outcome::Ok);
    if searched {
        // A user vector that already differs would only show its consequence here.
        let same_vector = digest_of(record, Stage::Context) == Some(digests[Stage::Context as usize]);
        digests[Stage::AnnSearch as usize] = match &materials.index {
            Some(index) => search(serving, index, &user_vector, state, record.candidate_limit as usize)?,
            None if same_vector => {
                let detail = "the index generation that was searched cannot be built again".to_owned();
                return Err(Difference { stage: Stage::AnnSearch, detail });
            }
            None => 0,
        };
    }
    let (items, reasons) = miss_candidates(&MissInputs {
        serving,
        state,
        sources: &sources,
        item: record.item.checked_sub(1).map(ItemIx),
        candidates: record.candidate_limit as usize,
    });
    digests[Stage::Candidates as usize] = Digest::default().u32s(&items).finish();

    let scores = if record.unranked {
        line_scores(serving, &user_vector, &items)
    } else {
        let candidates: Vec<_> = items.iter().map(|&item| ItemIx(item)).collect();
        serving.bundle.rank(&serving.items, &input, &user_vector, &candidates).click
    };
    digests[Stage::Score as usize] = Digest::default().f32s(&scores).finish();

    let base_rates = serving.items.base_rates_of(&items);
    let choice = Choice { items: &items, scores: &scores, base_rates: &base_rates, categories: &serving.categories };
    let chosen = choose(
        &policy(record)?,
        Sampler::Exact,
        record.seed,
        record.limit as usize,
        choice,
        &materials.posteriors,
        &mut Scratch::default(),
    );
    digests[Stage::Sample as usize] = chosen.sample_digest;
    digests[Stage::Slate as usize] = chosen.slate_digest;
    Ok(Decided {
        items: chosen.picks.iter().map(|&i| items[i as usize]).collect(),
        scores: chosen.means,
        reasons: chosen.picks.iter().map(|&i| reasons[i as usize]).collect(),
        slots: chosen.slots,
        digests,
        eligible: items.len() as u32,
    })
}

/// The search of the `neighbours` source again.
fn search(
    serving: &Serving,
    index: &VectorIndex,
    vector: &[f32],
    state: &UserState,
    candidates: usize,
) -> Result<u64, Difference> {
    let k = asked_of_sources(candidates, state);
    let found = attune_retrieval::sources::neighbours_of(serving, index, vector, k);
    let mut found = found.map_err(|e| Difference { stage: Stage::AnnSearch, detail: e.to_string() })?;
    unseen_of_source(&mut found, candidates, state);
    Ok(Digest::default().u32s(&found.iter().map(|item| item.0).collect::<Vec<_>>()).finish())
}
