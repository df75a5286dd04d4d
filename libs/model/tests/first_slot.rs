//! The click head on the simulated world's logged slates, beside the world's true chances in the first slot.
#![allow(clippy::unwrap_used, reason = "a world that cannot be made is a failed run")]

use attune_dataset::{Dataset, World, WorldConfig};
use attune_domain::{EventKey, ItemIx, UserWindow, WindowEvent};
use attune_identity::SubjectKey;
use attune_model::{Bundle, ItemTable, Quiet, TrainConfig, UserInput, train};

const SESSIONS: u32 = 5;
const ASKED: usize = 40;

fn world() -> World {
    World::new(WorldConfig { items: 400, users: 800, ..WorldConfig::default() }).unwrap()
}

fn history(world: &World) -> Dataset {
    let key = SubjectKey::new(1, [5; 32]);
    world.history(&key, world.config().catalogue_at + 7 * 24 * 3_600_000, SESSIONS)
}

fn windows(data: &Dataset) -> Vec<UserWindow> {
    let mut windows = vec![UserWindow::default(); data.users.len()];
    for (index, event) in data.events.iter().enumerate().filter(|(_, e)| e.kind.is_interaction()) {
        windows[event.user as usize].insert(WindowEvent {
            occurred_at: event.occurred_at,
            key: EventKey(index as u64),
            item: event.item,
            kind: event.kind,
            value: event.value,
        });
    }
    windows
}

/// Mean chance over some items for every visitor: as predicted, and as it is.
fn chances(world: &World, data: &Dataset, bundle: &Bundle) -> (f64, f64) {
    let table = ItemTable::new(bundle, &data.items);
    let (mut predicted, mut real, mut n) = (0.0, 0.0, 0.0);
    for (user, window) in windows(data).iter().enumerate() {
        let context = world.traits(user as u32).usual_context();
        let now = world.config().catalogue_at + 7 * 24 * 3_600_000;
        let input = UserInput { window, attributes: &data.attributes[user], context, now };
        let vector = bundle.user_vector(&table, &input);
        let items: Vec<ItemIx> =
            (0..ASKED).map(|at| ItemIx(((user * 31 + at * 7_919) % data.items.len()) as u32)).collect();
        let scores = bundle.rank(&table, &input, &vector, &items).click;
        predicted += scores.iter().map(|&p| f64::from(p)).sum::<f64>();
        let chance = |&item: &ItemIx| world.click_probability(user as u32, context, item, 0);
        real += items.iter().map(chance).sum::<f64>();
        n += ASKED as f64;
    }
    (predicted / n, real / n)
}

#[test]
fn the_click_head_knows_the_chances_of_the_first_slot() {
    let world = world();
    let data = history(&world);
    let config = TrainConfig { dim: 32, clusters: 6, ..TrainConfig::default() };
    let bundle = train(&data, &config, &Quiet).unwrap();
    let (predicted, real) = chances(&world, &data, &bundle);
    assert!((predicted / real - 1.0).abs() < 0.2, "{predicted:.4} of {real:.4}");

    let manifest = bundle.manifest();
    let first = manifest.metrics["ranker.first_slot_calibration"];
    // The few rows held out are a sample: three standard errors of their clicks.
    let error = 1.0 / (first.samples as f64 * predicted).sqrt();
    assert!(first.samples > 100 && (1.0 / first.value - 1.0).abs() < 3.0 * error, "{first:?}, error {error:.2}");
    // What is asked for is what a visitor's lists start from.
    let base = ItemTable::new(&bundle, &data.items).base_rates().iter().sum::<f32>() / data.items.len() as f32;
    // Within half: the mean is over the visitors and contexts of the training rows, not over those asked here.
    assert!((f64::from(base) / real - 1.0).abs() < 0.5, "{base:.4} of {real:.4}");
}

#[test]
fn calibration_is_not_claimed_of_a_first_slot_that_was_hardly_logged() {
    let world = world();
    let mut data = history(&world);
    // Nine slates of ten lack their first row.
    data.events.retain(|e| e.slate.is_none_or(|at| at.position > 0 || at.slate % 10 == 0));
    let config = TrainConfig { dim: 32, clusters: 6, ..TrainConfig::default() };
    let bundle = train(&data, &config, &Quiet).unwrap();
    assert!(bundle.manifest().head("click").is_some_and(|head| !head.calibrated));
    assert!(bundle.manifest().metrics["ranker.first_slot_calibration"].samples < 50);
}
