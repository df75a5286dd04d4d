//! The folder format: what is saved is loaded, what is damaged is refused.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use attune_dataset::{Dataset, DatasetError, World, WorldConfig};
use attune_identity::SubjectKey;
use std::path::{Path, PathBuf};

fn data(seed: u64) -> Dataset {
    let config = WorldConfig { seed, items: 30, users: 10, ..WorldConfig::default() };
    let mut data = World::new(config).unwrap().history(&SubjectKey::new(1, [7; 32]), 1_769_682_600_000, 2);
    data.test = data.events.split_off(data.events.len() / 2);
    data
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn saving_again_replaces_the_data_set_and_leaves_other_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/set");
    assert!(!Dataset::exists(&path));
    assert!(matches!(Dataset::load(&path), Err(DatasetError::Absent(_))));
    data(1).save(&path).unwrap();
    std::fs::write(path.join("events-of-mine.bin"), "mine").unwrap();
    let count = files(&path).len();
    data(2).save(&path).unwrap();
    assert!(Dataset::exists(&path));
    assert_eq!(Dataset::load(&path).unwrap(), data(2));
    assert_eq!(files(&path).len(), count);
    assert!(path.join("events-of-mine.bin").exists());
}

#[test]
fn every_changed_byte_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    data(1).save(dir.path()).unwrap();
    for path in files(dir.path()) {
        let good = std::fs::read(&path).unwrap();
        for at in [0, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            let error = Dataset::load(dir.path()).expect_err("a flipped bit");
            assert!(matches!(error, DatasetError::Damaged { .. } | DatasetError::Version { .. }), "{error}");
        }
        std::fs::write(&path, &good[..good.len() - 1]).unwrap();
        assert!(matches!(Dataset::load(dir.path()), Err(DatasetError::Damaged { .. })), "cut short");
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(Dataset::load(dir.path()), Err(DatasetError::Read(..) | DatasetError::Absent(_))));
        std::fs::write(&path, &good).unwrap();
    }
    assert_eq!(Dataset::load(dir.path()).unwrap(), data(1));
}

#[test]
fn another_format_version_is_named() {
    let dir = tempfile::tempdir().unwrap();
    data(1).save(dir.path()).unwrap();
    let path = dir.path().join("dataset.json");
    let text = std::fs::read_to_string(&path).unwrap().replace("\"format_version\": 1", "\"format_version\": 2");
    std::fs::write(&path, text).unwrap();
    assert!(matches!(Dataset::load(dir.path()), Err(DatasetError::Version { found: 2, .. })));
}

#[test]
fn a_manifest_cannot_point_outside_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("set");
    data(1).save(&inside).unwrap();
    let users = files(&inside).into_iter().find(|p| p.to_string_lossy().contains("users-")).unwrap();
    let name = users.file_name().unwrap().to_str().unwrap();
    std::fs::rename(&users, dir.path().join(name)).unwrap();
    let manifest = inside.join("dataset.json");
    let text = std::fs::read_to_string(&manifest).unwrap().replace(name, &format!("../{name}"));
    std::fs::write(&manifest, text).unwrap();
    assert!(matches!(Dataset::load(&inside), Err(DatasetError::Damaged { .. })));
}

#[test]
fn another_subject_key_is_refused() {
    assert!(data(1).check_key(&SubjectKey::new(1, [7; 32])).is_ok());
    assert!(matches!(data(1).check_key(&SubjectKey::new(1, [8; 32])), Err(DatasetError::OtherKey { .. })));
}

#[test]
fn the_hash_is_of_the_content() {
    assert_eq!(data(1).hash(), data(1).hash());
    let mut changed = data(1);
    changed.events[0].value += 1.0;
    assert_ne!(changed.hash(), data(1).hash());
    let mut renamed = data(1);
    renamed.name.push('x');
    assert_ne!(renamed.hash(), data(1).hash());
}
