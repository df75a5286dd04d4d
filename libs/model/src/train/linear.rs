//! Small dense linear algebra in f64, for what is solved once a training.

/// Inverse of a symmetric positive definite matrix (row-major, `n` wide), or None where it is not one.
pub(crate) fn invert(mut a: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    cholesky(&mut a, n)?;
    // Inverse of the lower triangle, kept transposed so that the inner loops run along rows.
    let mut inverse = vec![0.0; n * n];
    for j in 0..n {
        inverse[j * n + j] = 1.0 / a[j * n + j];
        for i in j + 1..n {
            let sum = dot(&a[i * n + j..i * n + i], &inverse[j * n + j..j * n + i]);
            inverse[j * n + i] = -sum / a[i * n + i];
        }
    }
    let mut full = vec![0.0; n * n];
    for i in 0..n {
        for j in i..n {
            let sum = dot(&inverse[i * n + j..(i + 1) * n], &inverse[j * n + j..(j + 1) * n]);
            full[i * n + j] = sum;
            full[j * n + i] = sum;
        }
    }
    Some(full)
}

/// Lower triangle L of a = L Lᵀ, in place.
fn cholesky(a: &mut [f64], n: usize) -> Option<()> {
    for i in 0..n {
        for j in 0..=i {
            let (head, tail) = a.split_at_mut(i * n);
            let row_j = if j < i { &head[j * n..j * n + j] } else { &tail[..j] };
            let sum = tail[j] - dot(&tail[..j], row_j);
            if j < i {
                tail[j] = sum / head[j * n + j];
            } else if sum > 0.0 {
                tail[j] = sum.sqrt();
            } else {
                return None;
            }
        }
    }
    Some(())
}

pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (x, y) in a8.iter().zip(b8) {
        for l in 0..8 {
            sums[l] += x[l] * y[l];
        }
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum::<f64>()
}

/// Makes the columns of a (row-major, `columns` wide) orthonormal by modified Gram-Schmidt, twice; a column that
/// depends on those before it becomes zero.
pub(crate) fn orthonormalise(a: &mut [f64], columns: usize) {
    let rows = a.len() / columns;
    let mut t = transpose(a, rows, columns);
    for j in 0..columns {
        let (done, rest) = t.split_at_mut(j * rows);
        let column = &mut rest[..rows];
        let before = dot(column, column).sqrt();
        for _ in 0..2 {
            for other in done.chunks_exact(rows) {
                let along = dot(column, other);
                column.iter_mut().zip(other).for_each(|(x, o)| *x -= along * o);
            }
        }
        let length = dot(column, column).sqrt();
        let scale = if length > 1e-9 * before && length > 0.0 { 1.0 / length } else { 0.0 };
        column.iter_mut().for_each(|x| *x *= scale);
    }
    a.copy_from_slice(&transpose(&t, columns, rows));
}

pub(crate) fn transpose(a: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    let mut t = vec![0.0; a.len()];
    for r in 0..rows {
        for c in 0..columns {
            t[c * rows + r] = a[r * columns + c];
        }
    }
    t
}

/// Eigenvalues, descending, and eigenvectors (one a row) of a symmetric matrix, by cyclic Jacobi rotations.
pub(crate) fn eigen(mut a: Vec<f64>, n: usize) -> (Vec<f64>, Vec<Vec<f64>>) {
    let mut v = vec![0.0; n * n];
    (0..n).for_each(|i| v[i * n + i] = 1.0);
    for _ in 0..30 {
        let off: f64 = (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i * n + j].powi(2)).sum();
        let diagonal: f64 = (0..n).map(|i| a[i * n + i].powi(2)).sum();
        if off <= diagonal * 1e-22 {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, &mut v, n, p, q);
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| a[j * n + j].total_cmp(&a[i * n + i]));
    let values = order.iter().map(|&i| a[i * n + i]).collect();
    (values, order.iter().map(|&i| v[i * n..(i + 1) * n].to_vec()).collect())
}

fn rotate(a: &mut [f64], v: &mut [f64], n: usize, p: usize, q: usize) {
    let apq = a[p * n + q];
    if apq == 0.0 {
        return;
    }
    let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * apq);
    let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let c = 1.0 / (t * t + 1.0).sqrt();
    let s = t * c;
    for k in 0..n {
        let (x, y) = (a[k * n + p], a[k * n + q]);
        a[k * n + p] = c * x - s * y;
        a[k * n + q] = s * x + c * y;
    }
    for m in [a, v] {
        for k in 0..n {
            let (x, y) = (m[p * n + k], m[q * n + k]);
            m[p * n + k] = c * x - s * y;
            m[q * n + k] = s * x + c * y;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spd(n: usize) -> Vec<f64> {
        let mut a = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..n {
                a[i * n + j] = 1.0 / (1.0 + (i as f64 - j as f64).abs()) + if i == j { 1.0 } else { 0.0 };
            }
        }
        a
    }

    #[test]
    fn inverse_times_matrix_is_one() {
        let n = 19;
        let inverse = invert(spd(n), n).unwrap();
        for i in 0..n {
            for j in 0..n {
                let sum: f64 = (0..n).map(|k| inverse[i * n + k] * spd(n)[k * n + j]).sum();
                assert!((sum - if i == j { 1.0 } else { 0.0 }).abs() < 1e-10);
            }
        }
        assert_eq!(invert(vec![1.0, 2.0, 2.0, 1.0], 2), None);
    }

    #[test]
    fn eigenvectors_are_scaled_by_their_values() {
        let n = 12;
        let (values, vectors) = eigen(spd(n), n);
        assert!(values.is_sorted_by(|a, b| a >= b));
        for (value, vector) in values.iter().zip(&vectors) {
            for i in 0..n {
                let image: f64 = (0..n).map(|k| spd(n)[i * n + k] * vector[k]).sum();
                assert!((image - value * vector[i]).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn columns_become_orthonormal_and_dependent_ones_vanish() {
        // Third column = first + second.
        let mut a = vec![1.0, 2.0, 3.0, 0.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 0.0, 2.0];
        orthonormalise(&mut a, 3);
        let t = transpose(&a, 4, 3);
        let product = |i: usize, j: usize| dot(&t[i * 4..i * 4 + 4], &t[j * 4..j * 4 + 4]);
        assert!((product(0, 0) - 1.0).abs() < 1e-12 && (product(1, 1) - 1.0).abs() < 1e-12);
        assert!(product(0, 1).abs() < 1e-12 && product(2, 2) < 1e-12);
    }
}
