//! Calibration of the click head, and what is measured of it.

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Validation {
    pub(crate) rows: u64,
    pub(crate) log_loss: f64,
    pub(crate) calibration_error: Option<f64>,
    pub(crate) auc: Option<f64>,
}

impl Validation {
    /// Of (logit, label) points; the calibration error only where it means something.
    pub(crate) fn of(mut points: Vec<(f32, f32)>, with_calibration: bool) -> Self {
        if points.is_empty() {
            return Self::default();
        }
        let n = points.len() as f64;
        let chance = |x: f32| f64::from(attune_inference::sigmoid(x)).clamp(1e-9, 1.0 - 1e-9);
        let log_loss = points
            .iter()
            .map(|&(x, y)| if y > 0.5 { -chance(x).ln() } else { -(1.0 - chance(x)).ln() })
            .sum::<f64>()
            / n;
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let error = points.chunks(points.len().div_ceil(10)).map(|bin| {
            (bin.iter().map(|&(x, _)| chance(x)).sum::<f64>()
                - bin.iter().map(|p| f64::from(p.1)).sum::<f64>())
            .abs()
                / n
        });
        Self {
            rows: points.len() as u64,
            log_loss,
            calibration_error: with_calibration.then(|| error.sum()),
            auc: auc(&points),
        }
    }
}

/// Newton's method on the cross entropy of `slope * logit + intercept`; (1, 0) where there is nothing to fit.
pub(crate) fn platt(points: &[(f32, f32)], with_slope: bool) -> (f32, f32) {
    let hits: f32 = points.iter().map(|p| p.1).sum();
    if hits < 5.0 || hits > points.len() as f32 - 5.0 {
        return (1.0, 0.0);
    }
    let (mut a, mut b) = (1.0f64, 0.0f64);
    for _ in 0..50 {
        let (mut ga, mut gb, mut haa, mut hab, mut hbb) = (0.0, 0.0, 1e-6, 0.0, 1e-6);
        for &(x, y) in points {
            let x = f64::from(x);
            let p = 1.0 / (1.0 + (-(a * x + b)).exp());
            let (error, weight) = (p - f64::from(y), p * (1.0 - p));
            ga += error * x;
            gb += error;
            haa += weight * x * x;
            hab += weight * x;
            hbb += weight;
        }
        let (da, db) = if with_slope {
            let det = haa * hbb - hab * hab;
            if det.abs() < 1e-12 {
                break;
            }
            ((hbb * ga - hab * gb) / det, (haa * gb - hab * ga) / det)
        } else {
            (0.0, gb / hbb)
        };
        a -= da.clamp(-0.5, 0.5);
        b -= db.clamp(-2.0, 2.0);
        if da.abs() + db.abs() < 1e-9 {
            break;
        }
    }
    if a > 0.05 && a.is_finite() && b.is_finite() { (a as f32, b as f32) } else { (1.0, 0.0) }
}

/// Area under the curve; `points` ascending by score. Ties count half. None where all labels are the same.
fn auc(points: &[(f32, f32)]) -> Option<f64> {
    let hits: f64 = points.iter().map(|p| f64::from(p.1)).sum();
    let misses = points.len() as f64 - hits;
    let (mut sum, mut below, mut at) = (0.0, 0.0, 0);
    while at < points.len() {
        let ties = points[at..].iter().take_while(|p| p.0 == points[at].0).count();
        let up: f64 = points[at..at + ties].iter().map(|p| f64::from(p.1)).sum();
        sum += up * (below + (ties as f64 - up) / 2.0);
        below += ties as f64 - up;
        at += ties;
    }
    (hits > 0.0 && misses > 0.0).then(|| sum / (hits * misses))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auc_counts_ties_half() {
        assert_eq!(auc(&[(0.1, 0.0), (0.2, 1.0)]), Some(1.0));
        assert_eq!(auc(&[(0.1, 1.0), (0.2, 0.0)]), Some(0.0));
        assert_eq!(auc(&[(0.1, 1.0), (0.1, 0.0)]), Some(0.5));
        assert_eq!(auc(&[(0.1, 1.0)]), None);
    }

    #[test]
    fn platt_scaling_recovers_a_known_distortion() {
        // Labels follow sigmoid(0.5 x - 1) exactly: at each x, that share of 1000 points is positive.
        let mut points = Vec::new();
        for step in -20..=20 {
            let x = step as f32 * 0.3;
            let p = 1.0 / (1.0 + (-(0.5 * x - 1.0)).exp());
            points.extend(
                (0..1000).map(|i| (x, if (i as f32 + 0.5) / 1000.0 < p { 1.0 } else { 0.0 })),
            );
        }
        let (a, b) = platt(&points, true);
        assert!((a - 0.5).abs() < 0.01 && (b + 1.0).abs() < 0.02, "{a} {b}");
        assert_eq!(platt(&points[..3], true), (1.0, 0.0));
    }
}
