//! Where the towers start from: a truncated factorisation of EASE, the linear item-to-item model.
//!
//! With X the visitors-by-items matrix (rows of busy visitors scaled down), EASE scores item j for a history h as
//! h·Xᵀ·M·X_j / (1 - X_jᵀ·M·X_j), M = (X·Xᵀ + λ)⁻¹, for items outside h. That is already a product of an input and an
//! output row per item; subspace iteration finds the best `rank` coordinates without forming the items-by-items matrix.

use crate::train::linear::{dot, eigen, invert, orthonormalise, transpose};
use rand::{Rng as _, RngExt as _};
use rand_chacha::ChaCha8Rng;

/// Visitors that the factorisation takes at most; it inverts a matrix of that size.
const MAX_USERS: usize = 1500;
/// Columns beyond the rank that make the subspace iteration converge.
const OVERSAMPLE: usize = 10;
const ITERATIONS: usize = 4;

/// Input and output rows, `rank` wide.
pub(crate) struct Factors {
    pub(crate) inputs: Vec<f32>,
    pub(crate) outputs: Vec<f32>,
}

struct Sparse {
    /// Items of each visitor.
    rows: Vec<Vec<u32>>,
    /// Value of a visitor's entries.
    weights: Vec<f64>,
    items: usize,
}

impl Sparse {
    /// X·a for a of `columns` columns.
    fn times(&self, a: &[f64], columns: usize) -> Vec<f64> {
        let mut out = vec![0.0; self.rows.len() * columns];
        for ((to, row), &weight) in out.chunks_exact_mut(columns).zip(&self.rows).zip(&self.weights) {
            for &item in row {
                let from = &a[item as usize * columns..(item as usize + 1) * columns];
                to.iter_mut().zip(from).for_each(|(t, f)| *t += weight * f);
            }
        }
        out
    }

    /// Xᵀ·a.
    fn transposed_times(&self, a: &[f64], columns: usize) -> Vec<f64> {
        let mut out = vec![0.0; self.items * columns];
        for ((from, row), &weight) in a.chunks_exact(columns).zip(&self.rows).zip(&self.weights) {
            for &item in row {
                let to = &mut out[item as usize * columns..(item as usize + 1) * columns];
                to.iter_mut().zip(from).for_each(|(t, f)| *t += weight * f);
            }
        }
        out
    }
}

/// M·a, M square.
fn dense_times(m: &[f64], a: &[f64], columns: usize) -> Vec<f64> {
    let n = a.len() / columns;
    let t = transpose(a, n, columns);
    let mut out = vec![0.0; a.len()];
    for (row, to) in m.chunks_exact(n).zip(out.chunks_exact_mut(columns)) {
        for (slot, column) in to.iter_mut().zip(t.chunks_exact(n)) {
            *slot = dot(row, column);
        }
    }
    out
}

/// `histories` are distinct items per visitor. Coordinates the data has no use for are small noise.
pub(crate) fn factorise(
    histories: &[Vec<u32>],
    items: usize,
    rank: usize,
    ridge: f64,
    rng: &mut ChaCha8Rng,
) -> Factors {
    let mut noise =
        |n: usize, scale: f32| -> Vec<f32> { (0..n).map(|_| (rng.random::<f32>() - 0.5) * scale).collect() };
    let mut factors = Factors { inputs: noise(items * rank, 0.02), outputs: noise(items * rank, 0.02) };
    let usable: Vec<&Vec<u32>> = histories.iter().filter(|h| h.len() > 1).collect();
    let stride = usable.len().div_ceil(MAX_USERS).max(1);
    let rows: Vec<Vec<u32>> = usable.into_iter().step_by(stride).cloned().collect();
    let users = rows.len();
    let width = (rank + OVERSAMPLE).min(users).min(items);
    if width == 0 {
        return factors;
    }
    let raw: Vec<f64> = rows.iter().map(|row| (row.len() as f64).powf(-0.25)).collect();
    let mean = raw.iter().sum::<f64>() / users as f64;
    let x = Sparse { weights: raw.iter().map(|w| (w / mean).sqrt()).collect(), rows, items };

    let Some(m) = invert(gram(&x, ridge), users) else { return factors };
    let scale: Vec<f64> = leverage(&x, &m).into_iter().map(|h| 1.0 / (1.0 - h).max(1e-3)).collect();
    let scaled = |mut a: Vec<f64>| {
        a.chunks_exact_mut(width).zip(&scale).for_each(|(row, s)| row.iter_mut().for_each(|v| *v *= s));
        a
    };
    let forward = |a: Vec<f64>| x.transposed_times(&dense_times(&m, &x.times(&scaled(a), width), width), width);
    let backward = |a: &[f64]| scaled(x.transposed_times(&dense_times(&m, &x.times(a, width), width), width));

    let mut q: Vec<f64> = (0..items * width).map(|_| f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.5).collect();
    for _ in 0..ITERATIONS {
        q = forward(q);
        orthonormalise(&mut q, width);
        q = backward(&q);
        orthonormalise(&mut q, width);
    }
    q = forward(q);
    orthonormalise(&mut q, width);
    // The matrix is about q·zᵀ; the eigenvectors of zᵀz turn both sides so that coordinates are ordered by strength.
    let z = backward(&q);
    let columns = transpose(&z, items, width);
    let mut zz = vec![0.0; width * width];
    for i in 0..width {
        for j in 0..width {
            zz[i * width + j] = dot(&columns[i * items..(i + 1) * items], &columns[j * items..(j + 1) * items]);
        }
    }
    let (values, vectors) = eigen(zz, width);
    for (at, (value, vector)) in values.iter().zip(&vectors).take(rank).enumerate() {
        let strength = value.max(0.0).sqrt();
        if strength < 1e-9 {
            break;
        }
        for item in 0..items {
            let side = |a: &[f64]| dot(&a[item * width..(item + 1) * width], vector);
            factors.inputs[item * rank + at] = (side(&q) * strength.sqrt()) as f32;
            factors.outputs[item * rank + at] = (side(&z) / strength.sqrt()) as f32;
        }
    }
    factors
}

/// X·Xᵀ + ridge.
fn gram(x: &Sparse, ridge: f64) -> Vec<f64> {
    let users = x.rows.len();
    let mut gram = vec![0.0; users * users];
    for list in by_item(x) {
        for &a in &list {
            for &b in &list {
                gram[a as usize * users + b as usize] += x.weights[a as usize] * x.weights[b as usize];
            }
        }
    }
    (0..users).for_each(|u| gram[u * users + u] += ridge);
    gram
}

/// X_jᵀ·M·X_j per item.
fn leverage(x: &Sparse, m: &[f64]) -> Vec<f64> {
    let users = x.rows.len();
    let sum = |list: &Vec<u32>| {
        let pairs = list.iter().flat_map(|&a| list.iter().map(move |&b| (a as usize, b as usize)));
        pairs.map(|(a, b)| x.weights[a] * x.weights[b] * m[a * users + b]).sum::<f64>()
    };
    by_item(x).iter().map(sum).collect()
}

fn by_item(x: &Sparse) -> Vec<Vec<u32>> {
    let mut lists = vec![Vec::new(); x.items];
    for (user, row) in x.rows.iter().enumerate() {
        row.iter().for_each(|&item| lists[item as usize].push(user as u32));
    }
    lists
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    #[test]
    fn full_rank_reproduces_ease() {
        let histories: Vec<Vec<u32>> =
            (0..12u32).map(|u| (0..9u32).filter(|i| (u * 7 + i * 5 + u * i) % 3 == 0).collect()).collect();
        let (items, rank, ridge) = (9, 9, 2.0);
        let factors = factorise(&histories, items, rank, ridge, &mut ChaCha8Rng::seed_from_u64(1));

        let usable: Vec<&Vec<u32>> = histories.iter().filter(|h| h.len() > 1).collect();
        let raw: Vec<f64> = usable.iter().map(|h| (h.len() as f64).powf(-0.25)).collect();
        let mean = raw.iter().sum::<f64>() / raw.len() as f64;
        let mut gram = vec![0.0; items * items];
        for (history, w) in usable.iter().zip(&raw) {
            for &i in *history {
                for &j in *history {
                    gram[i as usize * items + j as usize] += w / mean;
                }
            }
        }
        (0..items).for_each(|i| gram[i * items + i] += ridge);
        let p = invert(gram, items).unwrap();
        for i in 0..items {
            for j in (0..items).filter(|&j| j != i) {
                let ease = -p[i * items + j] / p[j * items + j];
                let row = |a: &[f32], at: usize| a[at * rank..(at + 1) * rank].to_vec();
                let ours: f32 = row(&factors.inputs, i).iter().zip(row(&factors.outputs, j)).map(|(a, b)| a * b).sum();
                assert!((ease - f64::from(ours)).abs() < 0.01, "{i} {j}: {ease} {ours}");
            }
        }
    }
}
