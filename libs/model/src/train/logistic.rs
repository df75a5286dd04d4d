//! Logistic regression with a few columns, by Newton's method.

/// Hits and misses without which there is nothing to fit.
const LEAST: usize = 5;
const STEPS: usize = 50;
/// Keeps columns that say the same apart: of those the smallest coefficients win.
const RIDGE: f64 = 1e-6;

/// What is known of a row, what is added to the logit as it is, and what came of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point<const N: usize> {
    pub(crate) columns: [f64; N],
    pub(crate) offset: f64,
    pub(crate) hit: bool,
}

/// Coefficients, found from `start`, that make `offset + columns * coefficients` the likeliest logits of the hits.
/// `None` where the points are too few or too one-sided to say.
pub(crate) fn logistic<const N: usize>(points: &[Point<N>], start: [f64; N]) -> Option<[f64; N]> {
    let hits = points.iter().filter(|p| p.hit).count();
    if hits < LEAST || points.len() - hits < LEAST {
        return None;
    }
    let (mut at, mut loss) = (start, loss_of(points, &start));
    for _ in 0..STEPS {
        let step = newton(points, &at)?;
        // A full step may overshoot where the loss is flat.
        let better = (0..30).map(|n| 0.5f64.powi(n)).find_map(|share| {
            let next: [f64; N] = std::array::from_fn(|i| at[i] - share * step[i]);
            let found = loss_of(points, &next);
            (found < loss).then_some((next, found))
        });
        let Some((next, found)) = better else { break };
        let gain = loss - found;
        (at, loss) = (next, found);
        if gain < 1e-12 * points.len() as f64 {
            break;
        }
    }
    at.iter().all(|c| c.is_finite()).then_some(at)
}

fn logit<const N: usize>(point: &Point<N>, at: &[f64; N]) -> f64 {
    point.columns.iter().zip(at).map(|(x, c)| x * c).sum::<f64>() + point.offset
}

fn loss_of<const N: usize>(points: &[Point<N>], at: &[f64; N]) -> f64 {
    let of = |point: &Point<N>| {
        let x = logit(point, at);
        let wrong = if point.hit { -x } else { x };
        wrong.max(0.0) + (-wrong.abs()).exp().ln_1p()
    };
    points.iter().map(of).sum()
}

/// The Hessian's inverse times the gradient.
fn newton<const N: usize>(points: &[Point<N>], at: &[f64; N]) -> Option<[f64; N]> {
    let (mut gradient, mut hessian) = ([0.0; N], [[0.0; N]; N]);
    (0..N).for_each(|i| hessian[i][i] = RIDGE);
    for point in points {
        let p = 1.0 / (1.0 + (-logit(point, at)).exp());
        let (error, weight) = (p - f64::from(u8::from(point.hit)), p * (1.0 - p));
        for ((slope, row), x) in gradient.iter_mut().zip(&mut hessian).zip(&point.columns) {
            *slope += error * x;
            row.iter_mut().zip(&point.columns).for_each(|(h, y)| *h += weight * x * y);
        }
    }
    solve(hessian, gradient)
}

/// Gaussian elimination; the matrix is symmetric and positive, so that no pivot has to be looked for.
fn solve<const N: usize>(mut matrix: [[f64; N]; N], mut right: [f64; N]) -> Option<[f64; N]> {
    for pivot in 0..N {
        let (above, below) = matrix.split_at_mut(pivot + 1);
        let first = &above[pivot];
        if first[pivot].is_nan() || first[pivot] <= 1e-12 {
            return None;
        }
        for (at, row) in below.iter_mut().enumerate() {
            let share = row[pivot] / first[pivot];
            row.iter_mut().zip(first).for_each(|(x, f)| *x -= share * f);
            right[pivot + 1 + at] -= share * right[pivot];
        }
    }
    for row in (0..N).rev() {
        let known: f64 = (row + 1..N).map(|column| matrix[row][column] * right[column]).sum();
        right[row] = (right[row] - known) / matrix[row][row];
    }
    Some(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At each place, that share of 1000 points is a hit.
    fn share(columns: [f64; 4], offset: f64, logit: f64) -> impl Iterator<Item = Point<4>> {
        let p = 1.0 / (1.0 + (-logit).exp());
        (0..1000).map(move |i| Point { columns, offset, hit: (f64::from(i) + 0.5) / 1000.0 < p })
    }

    #[test]
    fn a_known_distortion_is_recovered() {
        let mut points = Vec::new();
        for step in -10..=10 {
            for slot in [0.0f64, 1.0, 3.0, 8.0, 19.0] {
                let (x, columns) = (f64::from(step) * 0.3, [slot.ln_1p(), slot]);
                let real = 0.5 * x - 1.0 - 0.3 * columns[0] - 0.02 * columns[1];
                points.extend(share([x, 1.0, columns[0], columns[1]], 0.0, real));
            }
        }
        let near = |found: [f64; 4], wanted: [f64; 4]| {
            let gaps = found.iter().zip(wanted).map(|(f, w)| (f - w).abs());
            assert!(gaps.fold(0.0, f64::max) < 0.02, "{found:?}");
        };
        near(logistic(&points, [1.0, 0.0, 0.0, 0.0]).unwrap(), [0.5, -1.0, -0.3, -0.02]);
        // What an offset says already is not said again.
        points.iter_mut().for_each(|p| p.offset = -0.3 * p.columns[2]);
        near(logistic(&points, [1.0, 0.0, 0.0, 0.0]).unwrap(), [0.5, -1.0, 0.0, -0.02]);
        // A far start comes back.
        near(logistic(&points, [3.0, 2.0, 0.0, 0.0]).unwrap(), [0.5, -1.0, 0.0, -0.02]);
    }

    #[test]
    fn columns_that_say_the_same_share_the_effect() {
        let points: Vec<Point<4>> =
            [0.0, 1.0].iter().flat_map(|&slot| share([0.0, 1.0, slot, slot], 0.0, -1.0 - slot)).collect();
        let [none, level, a, b] = logistic(&points, [0.0; 4]).unwrap();
        assert!(none == 0.0 && (level + 1.0).abs() < 0.02 && (a + b + 1.0).abs() < 0.02);
    }

    #[test]
    fn nothing_is_said_of_too_little() {
        let points: Vec<Point<4>> = share([1.0, 1.0, 0.0, 0.0], 0.0, 0.0).take(3).collect();
        assert_eq!(logistic(&points, [1.0, 0.0, 0.0, 0.0]), None);
        let sure: Vec<Point<4>> = share([1.0, 1.0, 0.0, 0.0], 0.0, 50.0).collect();
        assert_eq!(logistic(&sure, [1.0, 0.0, 0.0, 0.0]), None);
    }
}
