//! ml-latest-small as a data set, straight from its files: what the checks of quality run on.

use attune_dataset::{Dataset, DatasetEvent};
use attune_domain::{Context, EventKind, Item, ItemId, ItemIx, Uid, UserAttributes};
use std::collections::HashMap;
use std::path::PathBuf;

/// None, said aloud, where the files are not at hand.
pub fn load() -> Option<Dataset> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/ml-latest-small");
    if !dir.join("ratings.csv").exists() {
        eprintln!("skipped: {} has no ratings.csv", dir.display());
        return None;
    }
    let mut data = Dataset { name: "ml-latest-small".into(), ..Dataset::default() };
    let mut by_id = HashMap::new();
    for row in csv::Reader::from_path(dir.join("movies.csv")).unwrap().records() {
        let row = row.unwrap();
        by_id.insert(row[0].to_owned(), ItemIx(data.items.len() as u32));
        data.items.push(Item {
            id: ItemId::new(&row[0]).unwrap(),
            title: row[1].to_owned(),
            categories: row[2].split('|').filter(|g| !g.starts_with('(')).map(str::to_owned).collect(),
            attributes: Vec::new(),
            price: None,
            created_at: None,
            available: true,
        });
    }
    let mut users: HashMap<String, u32> = HashMap::new();
    let mut ties: HashMap<(u32, i64), i64> = HashMap::new();
    for row in csv::Reader::from_path(dir.join("ratings.csv")).unwrap().records() {
        let row = row.unwrap();
        let next = users.len() as u32;
        let user = *users.entry(row[0].to_owned()).or_insert(next);
        if user == next {
            let mut uid = [0; 17];
            uid[..4].copy_from_slice(&user.to_le_bytes());
            data.users.push(Uid(uid));
            data.attributes.push(UserAttributes::default());
        }
        let seconds: i64 = row[3].parse().unwrap();
        let tie = ties.entry((user, seconds)).or_insert(0);
        let liked = row[2].parse::<f32>().unwrap() >= 4.0;
        data.events.push(DatasetEvent {
            user,
            item: by_id[&row[1]],
            kind: if liked { EventKind::Like } else { EventKind::Click },
            occurred_at: seconds * 1000 + *tie,
            value: 1.0,
            slate: None,
            context: Context::DEFAULT,
        });
        *tie += 1;
    }
    data.events.sort_by_key(|event| event.occurred_at);
    Some(data)
}

#[test]
fn files_have_the_known_size() {
    let Some(data) = load() else { return };
    assert_eq!((data.items.len(), data.users.len(), data.events.len()), (9_742, 610, 100_836));
}
