//! A bundle trained on a small world with logged slates: heads, isolation, storage, determinism, unseen items.
#![allow(clippy::unwrap_used, reason = "a fixture that cannot be read is a failed run")]

#[path = "fixtures/world.rs"]
mod world;

use attune_domain::{Context, Device, EventKind, ItemIx, Segment, UserAttributes, UserWindow};
use attune_model::{
    Bundle, BundleError, FeatureGroup, ItemTable, Presence, Quiet, TrainConfig, TrainError, UserInput, train,
};
use proptest::prelude::*;
use std::fs;
use std::sync::LazyLock;

const NOW: i64 = 401 * 86_400_000;

fn config() -> TrainConfig {
    TrainConfig { dim: 32, clusters: 6, tower_epochs: 4, ridge: 20.0, batch: 128, ..TrainConfig::default() }
}

static BUNDLE: LazyLock<Bundle> = LazyLock::new(|| train(&world::generate(7), &config(), &Quiet).unwrap());
static TABLE: LazyLock<ItemTable> = LazyLock::new(|| ItemTable::new(&BUNDLE, &world::generate(7).items));

fn input<'a>(window: &'a UserWindow, attributes: &'a UserAttributes) -> UserInput<'a> {
    UserInput { window, attributes, context: Context::DEFAULT, now: NOW }
}

fn mean_by(of: impl Fn(ItemIx) -> f32, wanted: impl Fn(usize) -> bool) -> f32 {
    let picked: Vec<f32> = (0..world::ITEMS).filter(|&ix| wanted(ix)).map(|ix| of(ItemIx(ix as u32))).collect();
    picked.iter().sum::<f32>() / picked.len() as f32
}

#[test]
fn heads_say_what_trained_them() {
    let manifest = BUNDLE.manifest();
    let names: Vec<&str> = manifest.heads.iter().map(|h| h.name.as_str()).collect();
    assert_eq!(names, ["click", "conversion", "dwell"]);
    assert!(manifest.head("click").is_some_and(|h| h.calibrated && h.trained_on == "logged impressions"));
    assert!(manifest.metrics["ranker.calibration_error"].value < 0.05, "{:?}", manifest.metrics);
    assert!(manifest.metrics["ranker.auc"].value > 0.65, "{:?}", manifest.metrics);
    assert!(BUNDLE.edge().slope > 0.0);

    let mut plain = world::generate(7);
    plain.events.retain(|e| matches!(e.kind, EventKind::Click));
    plain.events.iter_mut().for_each(|e| e.slate = None);
    let bundle = train(&plain, &config(), &Quiet).unwrap();
    assert_eq!(bundle.manifest().heads.len(), 1);
    assert!(bundle.manifest().head("click").is_some_and(|h| !h.calibrated));
    let table = ItemTable::new(&bundle, &plain.items);
    let window = world::window(&[3]);
    let attributes = UserAttributes::default();
    let input = input(&window, &attributes);
    let scores = bundle.rank(&table, &input, &bundle.user_vector(&table, &input), &[ItemIx(1)]);
    assert!(scores.conversion.is_none() && scores.dwell.is_none());
}

#[test]
fn matching_items_score_higher_in_every_head() {
    let window = world::window(&[3, 11, 19, 27, 35]);
    let attributes = UserAttributes::default();
    let input = input(&window, &attributes);
    let vector = BUNDLE.user_vector(&TABLE, &input);
    let all: Vec<ItemIx> = (0..world::ITEMS as u32).map(ItemIx).collect();
    let scores = BUNDLE.rank(&TABLE, &input, &vector, &all);
    let heads = [&scores.click, scores.conversion.as_ref().unwrap(), scores.dwell.as_ref().unwrap()];
    for head in heads {
        let same = mean_by(|ix| head[ix.index()], |ix| ix % world::CATEGORIES == 3);
        let other = mean_by(|ix| head[ix.index()], |ix| ix % world::CATEGORIES != 3);
        assert!(same > 1.3 * other, "{same} and {other}");
    }
    assert!(scores.click.iter().all(|p| (0.0..=1.0).contains(p)));
}

#[test]
fn a_new_visitor_moves_towards_what_they_click() {
    let attributes = UserAttributes::default();
    let lead = |window: &UserWindow, category: usize| {
        let vector = BUNDLE.user_vector(&TABLE, &input(window, &attributes));
        let score = |ix| attune_inference::dot(&vector, TABLE.vector(ix));
        mean_by(score, |ix| ix % world::CATEGORIES == category)
            - mean_by(score, |ix| ix % world::CATEGORIES != category)
    };
    for category in 0..world::CATEGORIES {
        let clicks: Vec<u32> = (0..5).map(|k| (category + k * world::CATEGORIES) as u32).collect();
        let (before, after) = (lead(&UserWindow::default(), category), lead(&world::window(&clicks), category));
        assert!(after > before + 0.2 && after > 0.2, "category {category}: {before} to {after}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn an_item_scores_the_same_in_any_company(
        clicks in prop::collection::vec(0u32..240, 0..60),
        mut candidates in prop::collection::vec(0u32..260, 1..200),
        cut in 0usize..200,
    ) {
        let window = world::window(&clicks);
        let attributes = UserAttributes(vec![("age_bucket".into(), "18-24".into())]);
        let input = input(&window, &attributes);
        let vector = BUNDLE.user_vector(&TABLE, &input);
        let score = |list: &[u32]| {
            let list: Vec<ItemIx> = list.iter().copied().map(ItemIx).collect();
            BUNDLE.rank(&TABLE, &input, &vector, &list)
        };
        let whole = score(&candidates);
        let at = cut % candidates.len();
        let (head, tail) = (score(&candidates[..at]), score(&candidates[at..]));
        let joined: Vec<u32> = head.click.iter().chain(&tail.click).map(|p| p.to_bits()).collect();
        prop_assert_eq!(whole.click.iter().map(|p| p.to_bits()).collect::<Vec<_>>(), joined);
        candidates.reverse();
        let mut reversed = score(&candidates);
        reversed.click.reverse();
        prop_assert_eq!(&whole.click, &reversed.click);
        let alone: Vec<f32> = candidates.iter().rev().map(|&ix| score(&[ix]).dwell.unwrap()[0]).collect();
        prop_assert_eq!(whole.dwell.unwrap(), alone);
    }

    #[test]
    fn any_window_has_finite_vectors_and_scores(
        events in prop::collection::vec((any::<i64>(), any::<u32>(), 0usize..6), 0..70), now in any::<i64>(),
    ) {
        let mut window = UserWindow::default();
        for (at, (occurred_at, item, kind)) in events.into_iter().enumerate() {
            window.insert(attune_domain::WindowEvent {
                occurred_at,
                key: attune_domain::EventKey(at as u64),
                item: ItemIx(if item % 3 == 0 { item } else { item % 240 }),
                kind: EventKind::ALL[kind],
                value: 1.0,
            });
        }
        let attributes = UserAttributes::default();
        let input = UserInput { window: &window, attributes: &attributes, context: Context::DEFAULT, now };
        let vector = BUNDLE.user_vector(&TABLE, &input);
        prop_assert!(vector.iter().all(|x| x.is_finite()));
        let scores = BUNDLE.rank(&TABLE, &input, &vector, &[ItemIx(0), ItemIx(u32::MAX)]);
        prop_assert!(scores.click[0] > 0.0 && scores.click[0] < 1.0);
        prop_assert_eq!(scores.click[1], 0.0);
        prop_assert_eq!(BUNDLE.attribute(&TABLE, &input, &vector, ItemIx(5)).len(), FeatureGroup::ALL.len());
        prop_assert!(BUNDLE.attribute(&TABLE, &input, &vector, ItemIx::UNKNOWN).is_empty());
    }
}

#[test]
fn training_is_deterministic_for_a_seed() {
    let again = train(&world::generate(7), &config(), &Quiet).unwrap();
    assert_eq!(again.version(), BUNDLE.version());
    let other = train(&world::generate(7), &TrainConfig { seed: 2, ..config() }, &Quiet).unwrap();
    assert_ne!(other.version(), BUNDLE.version());
}

#[test]
fn a_saved_bundle_comes_back_and_damage_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bundle");
    BUNDLE.save(&path).unwrap();
    BUNDLE.save(&path).unwrap();
    let back = Bundle::load(&path).unwrap();
    assert_eq!(back.version(), BUNDLE.version());
    assert_eq!(back.manifest(), BUNDLE.manifest());
    let window = world::window(&[1, 2, 3]);
    let attributes = UserAttributes::default();
    let input = input(&window, &attributes);
    let vector = BUNDLE.user_vector(&TABLE, &input);
    let table = ItemTable::new(&back, &world::generate(7).items);
    assert_eq!(back.user_vector(&table, &input), vector);
    let all: Vec<ItemIx> = (0..world::ITEMS as u32).map(ItemIx).collect();
    assert_eq!(back.rank(&table, &input, &vector, &all), BUNDLE.rank(&TABLE, &input, &vector, &all));
    assert_eq!(table.base_rates(), TABLE.base_rates());

    for section in ["items", "tower", "content", "ranker", "cohorts"] {
        let file = path.join(format!("{section}.safetensors"));
        let whole = fs::read(&file).unwrap();
        let mut damaged = whole.clone();
        // The lowest bit of a value in the middle: still a valid file.
        let at = damaged.len() / 8 * 4;
        damaged[at] ^= 1;
        fs::write(&file, &damaged).unwrap();
        assert!(matches!(Bundle::load(&path), Err(BundleError::Damaged(name)) if name == section));
        let (_, names) = Bundle::load_unchecked_sections(&path).unwrap();
        assert_eq!(names, [section]);
        fs::write(&file, &whole[..whole.len() / 2]).unwrap();
        assert!(matches!(
            Bundle::load_unchecked_sections(&path),
            Err(BundleError::Malformed { section: name, .. }) if name == section
        ));
        fs::write(&file, &whole).unwrap();
    }
    let manifest = fs::read_to_string(path.join("manifest.json")).unwrap();
    fs::write(path.join("manifest.json"), manifest.replace("\"world\"", "\"World\"")).unwrap();
    assert!(matches!(Bundle::load(&path), Err(BundleError::Damaged(name)) if name == "manifest"));
    fs::write(path.join("manifest.json"), manifest.replace("\"format\": 1", "\"format\": 9")).unwrap();
    assert!(matches!(Bundle::load(&path), Err(BundleError::Format(9))));
}

#[test]
fn an_extended_table_equals_a_new_one_and_unseen_items_are_like_their_kind() {
    let mut items = world::generate(7).items;
    assert!(BUNDLE.fits(&items));
    items.extend((world::ITEMS..world::ITEMS + 16).map(world::item));
    assert!(BUNDLE.fits(&items) && !BUNDLE.fits(&items[1..]));
    let (extended, new) = (TABLE.extended(&BUNDLE, &items), ItemTable::new(&BUNDLE, &items));
    assert_eq!(extended.vectors(), new.vectors());
    assert_eq!(extended.base_rates(), new.base_rates());
    assert_eq!(extended.len(), world::ITEMS + 16);
    // 248 % 8 is 0: clicks on category 0 put it before the other newcomers.
    let window = world::window(&[0, 8, 16, 24, 32]);
    let attributes = UserAttributes::default();
    let vector = BUNDLE.user_vector(&new, &input(&window, &attributes));
    let score = |ix: u32| attune_inference::dot(&vector, new.vector(ItemIx(ix)));
    assert!((249..256).all(|ix| score(248) > score(ix)));
    assert_eq!(new.category(ItemIx(248)), new.category(ItemIx(0)));
}

#[test]
fn cohorts_keep_a_cluster_for_newcomers() {
    let cohorts = BUNDLE.cohorts();
    let attributes = UserAttributes(vec![("age_bucket".into(), "18-24".into())]);
    let cluster = |window: &UserWindow| {
        let mut vector = vec![0.0; BUNDLE.dim()];
        BUNDLE.window_vector(&TABLE, window, &attributes, &mut vector);
        cohorts.assign(&vector)
    };
    assert_eq!(cluster(&UserWindow::default()) as usize, cohorts.clusters() - 1);
    assert_eq!(UserWindow::default().segment(), Segment::New);
    let some = cluster(&world::window(&[0, 8, 16]));
    assert!((some as usize) < cohorts.clusters() - 1);
    assert_eq!(cohorts.favourites(some).len(), 200);
    assert_eq!(cohorts.static_list(), &cohorts.global_favourites()[..100]);
    assert_eq!(cohorts.favourites(u16::MAX), cohorts.global_favourites());
}

#[test]
fn contributions_are_the_change_of_the_logit_with_evidence_from_the_window() {
    let window = world::window(&[3, 11, 19]);
    let attributes = UserAttributes::default();
    let input = input(&window, &attributes);
    let vector = BUNDLE.user_vector(&TABLE, &input);
    let found = BUNDLE.attribute(&TABLE, &input, &vector, ItemIx(27));
    assert!(found.is_sorted_by(|a, b| a.logit.abs() >= b.logit.abs()));
    let category = found.iter().find(|c| c.group == FeatureGroup::Category).unwrap();
    assert_eq!(category.evidence, [ItemIx(19), ItemIx(11), ItemIx(3)]);
    let matching: f32 = found
        .iter()
        .filter(|c| matches!(c.group, FeatureGroup::Category | FeatureGroup::Taste | FeatureGroup::Similarity))
        .map(|c| c.logit)
        .sum();
    assert!(matching > 0.0, "{found:?}");
}

#[test]
fn presence_tells_missing_from_defaulted() {
    let window = world::window(&[1]);
    let read = |value: Option<&str>, context| {
        let attributes = UserAttributes(value.map(|v| ("age_bucket".to_owned(), v.to_owned())).into_iter().collect());
        let input = UserInput { window: &window, attributes: &attributes, context, now: NOW };
        let all = BUNDLE.feature_presence(&input);
        let of = |name: &str| all.iter().find(|(n, _)| *n == name).map(|(_, p)| *p).unwrap();
        (of("user_age_bucket"), of("context_device"), of("recent_items"))
    };
    let desktop = Context { device: Device::Desktop, ..Context::DEFAULT };
    assert_eq!(read(Some("18-24"), desktop), (Presence::Present, Presence::Present, Presence::Present));
    assert_eq!(read(None, Context::DEFAULT), (Presence::Missing, Presence::Defaulted, Presence::Present));
    assert_eq!(read(Some("900"), Context::DEFAULT).0, Presence::Defaulted);
}

#[test]
fn bad_config_and_empty_data_are_refused_by_name() {
    let data = world::generate(7);
    let refused = |config: TrainConfig| match train(&data, &config, &Quiet) {
        Err(TrainError::Config { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(TrainConfig { dim: 30, ..config() }), "dim");
    assert_eq!(refused(TrainConfig { learning_rate: f64::NAN, ..config() }), "learning_rate");
    assert_eq!(refused(TrainConfig { clusters: 1, ..config() }), "clusters");
    let empty = attune_dataset::Dataset { events: Vec::new(), ..data.clone() };
    assert!(matches!(train(&empty, &config(), &Quiet), Err(TrainError::Data(_))));
}
