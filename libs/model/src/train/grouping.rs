//! Taste clusters: k-means on the directions of user vectors.

use crate::FIXED_COORDINATES;
use crate::cohorts::{Cohorts, FAVOURITES};
use crate::items::ItemTable;
use attune_domain::{Item, ItemIx};
use attune_inference::{dot, score_rows};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

const ITERATIONS: usize = 20;
/// Visitors a cluster should have on average, at least.
const MIN_VISITORS: usize = 4;

/// Clusters the window vectors of visitors with events.
pub(crate) fn cohorts(
    table: &ItemTable,
    items: &[Item],
    interactions: &[u32],
    vectors: &[Vec<f32>],
    clusters: usize,
    rng: &mut ChaCha8Rng,
) -> Cohorts {
    let dim = table.dim();
    let latent = dim - FIXED_COORDINATES;
    let directions: Vec<Vec<f32>> = vectors.iter().filter_map(|v| unit(&v[..latent])).collect();
    let count = (clusters - 1).min(directions.len() / MIN_VISITORS);
    let centres = k_means(&directions, count, rng);
    // A typical length, so that bias and taste are in the proportion that visitors have.
    let length =
        vectors.iter().map(|v| dot(&v[..latent], &v[..latent]).sqrt()).sum::<f32>() / vectors.len().max(1) as f32;

    let mut cohorts = Cohorts { dim, ..Cohorts::default() };
    let mut scores = vec![0.0; table.len()];
    for centre in &centres {
        let mut visitor: Vec<f32> = centre.iter().map(|x| x * length).collect();
        visitor.extend([0.0, 1.0]);
        score_rows(table.vectors(), dim, &visitor, &mut scores);
        cohorts.favourites.push(top(&scores, items));
        cohorts.centroids.extend_from_slice(centre);
        cohorts.centroids.extend([0.0, 1.0]);
    }
    let popularity: Vec<f32> = interactions.iter().map(|&n| n as f32).collect();
    cohorts.global = top(&popularity, items);
    cohorts.favourites.push(cohorts.global.clone());
    cohorts.centroids.extend(std::iter::repeat_n(0.0, latent));
    cohorts.centroids.extend([1.0, 1.0]);
    cohorts
}

fn unit(vector: &[f32]) -> Option<Vec<f32>> {
    let length = dot(vector, vector).sqrt();
    (length > 1e-9).then(|| vector.iter().map(|x| x / length).collect())
}

fn top(scores: &[f32], items: &[Item]) -> Vec<ItemIx> {
    let mut order: Vec<u32> = (0..items.len() as u32).filter(|&ix| items[ix as usize].available).collect();
    order.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]).then(a.cmp(&b)));
    order.truncate(FAVOURITES);
    order.into_iter().map(ItemIx).collect()
}

/// Spherical k-means with spread-out starting points; every centre has length 1.
fn k_means(points: &[Vec<f32>], count: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<f32>> {
    if count == 0 {
        return Vec::new();
    }
    let mut centres = vec![points[rng.random_range(0..points.len())].clone()];
    let mut distance = vec![f32::INFINITY; points.len()];
    while centres.len() < count {
        let last = &centres[centres.len() - 1];
        distance.iter_mut().zip(points).for_each(|(d, p)| *d = d.min((1.0 - dot(p, last)).max(0.0)));
        let total: f32 = distance.iter().sum();
        let mut left = rng.random::<f32>() * total;
        let next = distance.iter().position(|d| {
            left -= d;
            left <= 0.0
        });
        centres.push(points[next.unwrap_or(points.len() - 1)].clone());
    }
    for _ in 0..ITERATIONS {
        let mut sums = vec![vec![0.0; points[0].len()]; count];
        for point in points {
            let nearest = (0..count).map(|c| (dot(point, &centres[c]), c)).max_by(|a, b| a.0.total_cmp(&b.0));
            if let Some((_, c)) = nearest {
                sums[c].iter_mut().zip(point).for_each(|(s, x)| *s += x);
            }
        }
        for (centre, sum) in centres.iter_mut().zip(&sums) {
            if let Some(mean) = unit(sum) {
                *centre = mean;
            }
        }
    }
    centres
}
