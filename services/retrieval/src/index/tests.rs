#![allow(clippy::disallowed_macros, reason = "a test that skips says so")]

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const ON_TIME: &dyn Fn() -> bool = &|| false;

/// xorshift64*, as a stream of roughly normal numbers.
struct Noise(u64);

impl Noise {
    fn unit(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40) as f32 / (1u64 << 24) as f32
    }

    fn normal(&mut self) -> f32 {
        (0..6).map(|_| self.unit()).sum::<f32>() - 3.0
    }
}

/// `n` vectors around 40 centres in a space of `inner` dimensions, mapped to `dim`, of different lengths.
fn clustered(n: usize, dim: usize, inner: usize, seed: u64) -> Vec<f32> {
    let mut noise = Noise(seed);
    let map: Vec<f32> = (0..dim * inner).map(|_| noise.normal()).collect();
    let centres: Vec<f32> = (0..40 * inner).map(|_| noise.normal() * 1.5).collect();
    let mut out = Vec::with_capacity(n * dim);
    for i in 0..n {
        let length = 0.3 + noise.unit();
        let point: Vec<f32> = (0..inner).map(|j| centres[i % 40 * inner + j] + noise.normal()).collect();
        out.extend((0..dim).map(|d| length * (0..inner).map(|j| map[d * inner + j] * point[j]).sum::<f32>() / 8.0));
    }
    out
}

fn isotropic(n: usize, dim: usize, seed: u64) -> Vec<f32> {
    let mut noise = Noise(seed);
    (0..n * dim).map(|_| noise.normal()).collect()
}

fn query(vector: &[f32], k: usize) -> Query<'_> {
    Query { vector, k, ef: None, allow: None, late: ON_TIME }
}

/// Share of the exact hundred best that the index finds, averaged over queries.
fn recall(index: &VectorIndex, queries: &[f32], ef: usize) -> f64 {
    let now = index.pin();
    let mut found = 0;
    for vector in queries.chunks(index.dim()) {
        let exact = now.search_exact(&query(vector, 100)).unwrap();
        let hits = now.search(index.config(), &Query { ef: Some(ef), ..query(vector, 100) }).unwrap();
        assert_eq!(hits.len(), 100);
        found += exact.iter().filter(|hit| hits.contains(hit)).count();
    }
    found as f64 / (queries.len() / index.dim() * 100) as f64
}

#[test]
fn recall_at_100_on_clustered_vectors() {
    let vectors = clustered(6_060, 48, 24, 7);
    let (items, queries) = vectors.split_at(6_000 * 48);
    let index = VectorIndex::seeded(48, IndexConfig::default(), items).unwrap();
    assert!(index.merge());
    assert_eq!(index.pin().in_graphs(), 6_000, "the graph answers, not a scan");
    let near = recall(&index, queries, 200);
    let strange = recall(&index, &clustered(60, 48, 24, 8), 400);
    println!("recall@100 clustered, ef 200: {near:.4}; queries from another space, ef 400: {strange:.4}");
    assert!(near >= 0.98, "{near}");
    assert!(strange >= 0.98, "{strange}");
}

#[test]
fn recall_at_100_on_random_vectors_with_a_wide_beam() {
    let index = VectorIndex::seeded(32, IndexConfig::default(), &isotropic(5_000, 32, 3)).unwrap();
    index.merge();
    let queries = isotropic(40, 32, 4);
    let narrow = recall(&index, &queries, 100);
    let wide = recall(&index, &queries, 800);
    println!("recall@100 random, ef 100: {narrow:.4}, ef 800: {wide:.4}");
    assert!(wide >= 0.98 && wide >= narrow, "{narrow} {wide}");
}

fn small() -> IndexConfig {
    IndexConfig {
        graph: GraphParams { links: 6, ef_construction: 40, exact_below: 8 },
        ef: 24,
        seal_at: 16,
        buffer_max: 64,
        ..Default::default()
    }
}

#[test]
fn the_same_items_give_the_same_index_and_answers() {
    let vectors = clustered(600, 20, 8, 1);
    let build = || {
        let index = VectorIndex::seeded(20, small(), &vectors).unwrap();
        index.merge();
        index
    };
    let (a, b) = (build(), build());
    assert_eq!(a.pin().hash(), b.pin().hash());
    for vector in vectors.chunks(20).step_by(7) {
        let (x, y) = (a.search(&query(vector, 10)).unwrap(), b.search(&query(vector, 10)).unwrap());
        assert_eq!(x, y);
    }
    b.write(&[Change::Delete(5)]).unwrap();
    assert_ne!(a.pin().hash(), b.pin().hash(), "a tombstone is part of the name");
}

#[test]
fn equal_scores_come_in_the_order_of_ids() {
    let index = VectorIndex::seeded(2, small(), &[1.0, 0.0].repeat(40)).unwrap();
    let ids = |index: &VectorIndex| {
        index.search(&query(&[1.0, 0.0], 5)).unwrap().iter().map(|hit| hit.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&index), [0, 1, 2, 3, 4]);
    index.merge();
    index.write(&[Change::Delete(1), Change::Upsert(0, &[1.0, 0.0])]).unwrap();
    let with_graph = index.search(&Query { ef: Some(40), ..query(&[1.0, 0.0], 5) }).unwrap();
    assert_eq!(with_graph.iter().map(|hit| hit.id).collect::<Vec<_>>(), [0, 2, 3, 4, 5]);
}

#[test]
fn a_filter_is_obeyed_whatever_its_share() {
    let vectors = clustered(3_000, 24, 10, 5);
    let index = VectorIndex::seeded(24, IndexConfig { ef: 120, ..Default::default() }, &vectors).unwrap();
    index.merge();
    let now = index.pin();
    for share in [2, 3, 50, 700] {
        let allow: Bitmap = (0..3_000).filter(|id| id % share == 0).collect();
        let mut found = 0;
        let mut wanted = 0;
        for vector in vectors.chunks(24).step_by(211) {
            let filtered = Query { allow: Some(&allow), ..query(vector, 20) };
            let hits = now.search(index.config(), &filtered).unwrap();
            let exact = now.search_exact(&filtered).unwrap();
            assert!(hits.iter().all(|hit| allow.contains(hit.id)));
            assert_eq!(hits.len(), exact.len());
            wanted += exact.len();
            found += exact.iter().filter(|hit| hits.contains(hit)).count();
        }
        assert!(found as f64 >= 0.98 * wanted as f64, "1/{share}: {found} of {wanted}");
    }
}

#[test]
fn a_late_search_gives_up() {
    let index = VectorIndex::seeded(16, small(), &isotropic(400, 16, 9)).unwrap();
    let late = Query { late: &|| true, ..query(&[1.0; 16], 5) };
    assert_eq!(index.search(&late), Err(SearchError::Late));
    index.merge();
    assert_eq!(index.search(&late), Err(SearchError::Late));
}

#[test]
fn bad_vectors_and_a_full_buffer_change_nothing() {
    let index = VectorIndex::new(2, small());
    let before = index.pin().hash();
    let nan = [f32::NAN, 0.0];
    assert_eq!(
        index.write(&[Change::Upsert(1, &[1.0, 1.0]), Change::Upsert(4, &nan)]),
        Err(WriteError::NotFinite { id: 4 })
    );
    let narrow = index.write(&[Change::Upsert(1, &[1.0])]);
    assert_eq!(narrow, Err(WriteError::Dimension { id: 1, expected: 2, found: 1 }));
    let many: Vec<_> = (0..65).map(|id| Change::Upsert(id, &[1.0, 1.0])).collect();
    assert_eq!(index.write(&many), Err(WriteError::BufferFull { items: 0 }));
    assert_eq!(index.pin().hash(), before);
    assert!(matches!(index.search(&query(&[1.0], 1)), Err(SearchError::Dimension { expected: 2, found: 1 })));
}

#[test]
fn a_snapshot_comes_back_and_a_damaged_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("items.index");
    let vectors = clustered(500, 20, 8, 2);
    let index = VectorIndex::seeded(20, small(), &vectors).unwrap();
    index.merge();
    index.write(&[Change::Delete(3), Change::Upsert(7, &[0.5; 20]), Change::Upsert(900, &[0.1; 20])]).unwrap();
    index.save(&path).unwrap();
    let back = VectorIndex::load(&path, small()).unwrap();
    assert_eq!(back.pin().hash(), index.pin().hash());
    for vector in vectors.chunks(20).step_by(31) {
        assert_eq!(back.search(&query(vector, 12)).unwrap(), index.search(&query(vector, 12)).unwrap());
    }
    assert_eq!(back.reconcile(&vectors).unwrap(), 3, "the deleted, the changed and the one too many");
    assert_eq!(back.pin().ids(), (0..500).collect::<Vec<_>>());
    assert_eq!(back.reconcile(&vectors).unwrap(), 0);

    let good = std::fs::read(&path).unwrap();
    for at in [0, 20, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 4;
        std::fs::write(&path, bad).unwrap();
        assert!(matches!(VectorIndex::load(&path, small()), Err(SnapshotError::Damaged(_))), "byte {at}");
    }
    std::fs::write(&path, &good[..good.len() / 3]).unwrap();
    assert!(matches!(VectorIndex::load(&path, small()), Err(SnapshotError::Damaged(_))));
    // A file whose checksum is right and whose content is not.
    let mut forged = good[..good.len() - 32].to_vec();
    forged[32] = 255;
    forged.extend_from_slice(blake3::hash(&forged.clone()).as_bytes());
    std::fs::write(&path, forged).unwrap();
    assert!(matches!(VectorIndex::load(&path, small()), Err(SnapshotError::Damaged(_))));
}

#[test]
fn writes_during_a_merge_survive_it() {
    let vectors = clustered(1_500, 16, 8, 6);
    let index = Arc::new(VectorIndex::seeded(16, small(), &vectors).unwrap());
    let merging = std::thread::spawn({
        let index = Arc::clone(&index);
        move || index.merge()
    });
    let mut model: BTreeMap<u32, Vec<f32>> = (0..).zip(vectors.chunks(16).map(<[f32]>::to_vec)).collect();
    let mut noise = Noise(77);
    let mut rounds = 0;
    while !merging.is_finished() || rounds < 50 {
        let id = (noise.unit() * 1_500.0) as u32;
        if rounds % 3 == 0 {
            index.write(&[Change::Delete(id)]).unwrap();
            model.remove(&id);
        } else if let std::collections::btree_map::Entry::Occupied(mut e) = model.entry(id) {
            let vector: Vec<f32> = (0..16).map(|_| noise.normal()).collect();
            if index.write(&[Change::Upsert(id, &vector)]).is_ok() {
                e.insert(vector);
            }
        }
        rounds += 1;
    }
    assert!(merging.join().unwrap());
    let now = index.pin();
    assert_eq!(now.ids(), model.keys().copied().collect::<Vec<_>>());
    for (id, vector) in &model {
        assert_eq!(&now.row(*id).unwrap()[..16], &vector[..], "item {id}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(u32, Vec<i8>),
    Drop(u32),
    Merge,
    Find(Vec<i8>, usize, u32),
}

fn step() -> impl Strategy<Value = Step> {
    let vector = || prop::collection::vec(-4i8..=4, 3);
    prop_oneof![
        8 => (0u32..40, vector()).prop_map(|(id, v)| Step::Put(id, v)),
        3 => (0u32..40).prop_map(Step::Drop),
        1 => Just(Step::Merge),
        4 => (vector(), 0usize..12, 1u32..4).prop_map(|(v, k, m)| Step::Find(v, k, m)),
    ]
}

fn floats(v: &[i8]) -> Vec<f32> {
    v.iter().map(|&x| f32::from(x)).collect()
}

proptest! {
    /// Whatever was written and merged, a search is right about what is live, allowed, how good it is and in which
    /// order, and a beam as wide as the index finds exactly the best.
    #[test]
    fn agrees_with_a_plain_map(steps in prop::collection::vec(step(), 1..80)) {
        let index = VectorIndex::new(3, small());
        let mut model = BTreeMap::new();
        for step in steps {
            match step {
                Step::Put(id, v) => {
                    index.write(&[Change::Upsert(id, &floats(&v))]).unwrap();
                    model.insert(id, floats(&v));
                }
                Step::Drop(id) => {
                    index.write(&[Change::Delete(id)]).unwrap();
                    model.remove(&id);
                }
                Step::Merge => {
                    index.merge();
                }
                Step::Find(v, k, modulus) => {
                    let vector = floats(&v);
                    let allow: Bitmap = (0..40).filter(|id| id % modulus == 0).collect();
                    let wide = Query { ef: Some(1_000), allow: Some(&allow), ..query(&vector, k) };
                    let mut best: Vec<Hit> = model
                        .iter()
                        .filter(|(id, _)| allow.contains(**id))
                        .map(|(&id, row)| Hit { id, score: row.iter().zip(&vector).map(|(a, b)| a * b).sum::<f32>() + 0.0 })
                        .collect();
                    best.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap().then(a.id.cmp(&b.id)));
                    best.truncate(k);
                    let same = |hits: &[Hit]| hits.len() == best.len() && hits.iter().zip(&best).all(|(a, b)| a.id == b.id && a.score == b.score);
                    let hits = index.search(&wide).unwrap();
                    prop_assert!(same(&hits), "{hits:?} is not {best:?}");
                    prop_assert!(same(&index.pin().search_exact(&wide).unwrap()));
                    let narrow = index.search(&Query { ef: Some(1), ..wide }).unwrap();
                    prop_assert_eq!(narrow.len(), best.len());
                    prop_assert!(narrow.is_sorted_by(|a, b| a > b));
                    prop_assert!(narrow.iter().all(|hit| model.contains_key(&hit.id) && allow.contains(hit.id)));
                }
            }
        }
        prop_assert_eq!(index.pin().ids(), model.keys().copied().collect::<Vec<_>>());
    }
}
