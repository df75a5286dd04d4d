//! Items nobody touched, on ml-latest-small: their rows from content must order them better than chance.
#![allow(clippy::unwrap_used, reason = "a fixture that cannot be read is a failed run")]

#[path = "fixtures/movielens.rs"]
mod movielens;

use attune_domain::{Context, ItemIx, UserAttributes, UserWindow};
use attune_model::{ItemTable, Quiet, TrainConfig, UserInput, evaluation, train};
use std::collections::HashMap;

#[test]
fn content_orders_items_that_nobody_touched() {
    let Some(mut data) = movielens::load() else { return };
    // Every eleventh item goes to the end of the catalogue and out of training.
    let cold = |ix: usize| ix.is_multiple_of(11);
    let order: Vec<usize> =
        (0..data.items.len()).filter(|&i| !cold(i)).chain((0..data.items.len()).filter(|&i| cold(i))).collect();
    let warm = order.iter().filter(|&&i| !cold(i)).count();
    let new_ix: HashMap<usize, u32> = order.iter().enumerate().map(|(new, &old)| (old, new as u32)).collect();
    let all_items = order.iter().map(|&old| data.items[old].clone()).collect::<Vec<_>>();
    data.events.iter_mut().for_each(|e| e.item = ItemIx(new_ix[&e.item.index()]));
    let mut liked_cold: HashMap<u32, Vec<ItemIx>> = HashMap::new();
    for event in data.events.iter().filter(|e| e.item.index() >= warm) {
        liked_cold.entry(event.user).or_default().push(event.item);
    }
    data.events.retain(|e| e.item.index() < warm);
    data.items = all_items[..warm].to_vec();
    let config = TrainConfig {
        dim: 32,
        tower_epochs: 1,
        final_epochs: 0,
        ranker_epochs: 1,
        ranker_rows: 20_000,
        batch: 512,
        ..TrainConfig::default()
    };
    let split = evaluation::leave_out(&data, 1);
    let bundle = train(&split.train, &config, &Quiet).unwrap();
    let table = ItemTable::new(&bundle, &all_items);

    let attributes = UserAttributes::default();
    let (mut wins, mut pairs) = (0.0, 0.0);
    let mut taste = |window: &UserWindow, liked: &[ItemIx]| {
        let input = UserInput { window, attributes: &attributes, context: Context::DEFAULT, now: 1_600_000_000_000 };
        let vector = bundle.user_vector(&table, &input);
        let score = |ix: ItemIx| attune_inference::dot(&vector, table.vector(ix));
        for &hit in liked {
            for other in (warm as u32..all_items.len() as u32).map(ItemIx).filter(|ix| !liked.contains(ix)) {
                wins += if score(hit) > score(other) { 1.0 } else { 0.0 };
                pairs += 1.0;
            }
        }
    };
    for case in &split.cases {
        if let Some(liked) = liked_cold.get(&(case.user as u32)) {
            taste(&case.history, &liked[..liked.len().min(10)]);
        }
    }
    let auc: f64 = wins / pairs;
    println!("cold items: {} of {}, AUC {auc:.3} over {pairs} pairs", all_items.len() - warm, all_items.len());
    assert!(auc > 0.58, "{auc}");
}

#[test]
fn files_have_the_known_size() {
    let Some(data) = movielens::load() else { return };
    assert_eq!((data.items.len(), data.users.len(), data.events.len()), (9_742, 610, 100_836));
}
