//! The real MovieLens data, where it is there: import, save, load.

use attune_dataset::{Dataset, Format, NoProgress, Source, detect, import};
use attune_domain::{EventKind, UnixMillis};
use attune_identity::SubjectKey;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

fn movielens() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/ml-latest-small");
    if !dir.is_dir() {
        eprintln!("SKIPPED: {} is not there", dir.display());
        return None;
    }
    Some(dir)
}

#[test]
fn every_rating_becomes_an_event_in_the_users_order() {
    let Some(dir) = movielens() else { return };
    assert_eq!(detect(&dir), Some(Format::MovieLens));
    assert_eq!(detect(&dir.join("ratings.csv")), Some(Format::MovieLens));
    let key = SubjectKey::new(1, [7; 32]);
    let (data, report) = import(&Source { format: Format::MovieLens, path: dir.clone() }, &key, &NoProgress).unwrap();
    assert_eq!((data.items.len(), data.users.len(), data.events.len()), (9_742, 610, 100_836));
    assert_eq!(report.rejected_total(), 0, "{report}");
    let ratings = report.files.iter().find(|f| f.name == "ratings.csv").unwrap();
    assert_eq!((ratings.rows_read, ratings.kept), (100_836, 100_836));

    // The file itself, read another way, is the oracle for order, kind and item.
    let text = std::fs::read_to_string(dir.join("ratings.csv")).unwrap();
    let mut expected: HashMap<_, Vec<(UnixMillis, String, EventKind)>> = HashMap::new();
    for line in text.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let kind = if cells[2].parse::<f64>().unwrap() >= 4.0 { EventKind::Like } else { EventKind::Click };
        expected.entry(key.uid(cells[0])).or_default().push((cells[3].parse().unwrap(), cells[1].to_owned(), kind));
    }
    let mut got: HashMap<_, Vec<(UnixMillis, String, EventKind)>> = HashMap::new();
    let mut last = HashMap::new();
    for event in &data.events {
        let uid = data.users[event.user as usize];
        let id = data.items[event.item.index()].id.to_string();
        assert!(last.insert(uid, event.occurred_at) < Some(event.occurred_at), "a user's times increase");
        got.entry(uid).or_default().push((event.occurred_at / 1000, id, event.kind));
    }
    for (uid, mut rows) in expected {
        rows.sort_by_key(|row| row.0);
        assert_eq!(got.remove(&uid).unwrap(), rows);
    }
    assert!(data.events.is_sorted_by_key(|e| e.occurred_at));

    let toy_story = &data.items[0];
    assert_eq!((toy_story.id.as_str(), toy_story.title.as_str()), ("1", "Toy Story (1995)"));
    assert_eq!(toy_story.categories, ["Adventure", "Animation", "Children", "Comedy", "Fantasy"]);
    assert_eq!(toy_story.attributes, [("tags".into(), "pixar, fun".into()), ("year".into(), "1995".into())]);
    assert_eq!(toy_story.created_at, Some(788_918_400_000));
}

#[test]
fn it_survives_the_disk() {
    let Some(path) = movielens() else { return };
    let key = SubjectKey::new(1, [7; 32]);
    let (data, _) = import(&Source { format: Format::MovieLens, path }, &key, &NoProgress).unwrap();
    let dir = tempfile::tempdir().unwrap();
    data.save(dir.path()).unwrap();
    let loaded = Dataset::load(dir.path()).unwrap();
    assert_eq!(loaded.hash(), data.hash());
    assert!(loaded == data);
    let event = loaded.logged_event(100_835, 5).unwrap();
    assert_eq!((event.event_id.as_str(), event.accepted_at, event.imported), ("ml-latest-small:100835", 5, true));
    assert!(loaded.logged_event(100_836, 5).is_none());
}
