//! Prints what a model costs: training on a world of 2,000 visitors and items with logged slates, then the time to
//! score 500 candidates, stage by stage, on one core.
#![allow(clippy::unwrap_used, reason = "a fixture that cannot be read is a failed run")]

#[path = "../tests/fixtures/world.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod world;

use attune_domain::{Context, ItemIx, UserAttributes};
use attune_inference::{Isa, Layer, Mlp};
use attune_model::{Bar, ItemTable, TrainConfig, UserInput, train};
use std::hint::black_box;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Median of the runs.
fn median(mut run: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..300)
        .map(|_| {
            let began = Instant::now();
            run();
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

fn main() -> anyhow::Result<()> {
    let data = world::sized(3, 2000, 2000);
    println!("{} events of {} visitors about {} items", data.events.len(), data.users.len(), data.items.len());
    let began = Instant::now();
    let bundle = train(&data, &TrainConfig::default(), &Bar::default())?;
    println!("trained in {:.1} s", began.elapsed().as_secs_f64());
    for (name, metric) in &bundle.manifest().metrics {
        println!("  {name} {:.4} ({} samples)", metric.value, metric.samples);
    }

    let table = ItemTable::new(&bundle, &data.items);
    let window = world::window(&(0..50).map(|i| i * 37 % 2000).collect::<Vec<u32>>());
    let attributes = UserAttributes::default();
    let input =
        UserInput { window: &window, attributes: &attributes, context: Context::DEFAULT, now: 401 * 86_400_000 };
    let vector = bundle.user_vector(&table, &input);
    let candidates: Vec<ItemIx> = (0..500).map(|i| ItemIx(i * 3)).collect();
    let numbers: Vec<u32> = candidates.iter().map(|ix| ix.0).collect();
    let mut dots = vec![0.0; candidates.len()];

    println!("user vector of 50 events: {:?}", median(|| drop(black_box(bundle.user_vector(&table, &input)))));
    println!(
        "500 dot products: {:?}",
        median(|| {
            attune_inference::gather_dot(table.vectors(), table.dim(), &vector, &numbers, &mut dots);
        })
    );
    println!(
        "rank 500, features and all: {:?}",
        median(|| {
            black_box(bundle.rank(&table, &input, &vector, &candidates));
        })
    );
    let layer = |outputs: usize, inputs: usize| Layer {
        weights: (0..outputs * inputs).map(|i| (i % 17) as f32 * 0.01 - 0.08).collect(),
        bias: vec![0.1; outputs],
    };
    let model = Mlp::new(100, &[layer(128, 100), layer(64, 128), layer(3, 164)])?;
    let rows: Vec<f32> = (0..500 * 100).map(|i| (i % 23) as f32 * 0.1 - 1.0).collect();
    let mut out = vec![0.0; 1500];
    for &isa in Isa::available() {
        println!("500 x 100 -> 128 -> 64 -> 3 on {isa:?}: {:?}", median(|| model.forward_on(isa, &rows, &mut out)));
    }
    Ok(())
}
