//! Experiment arms: a stable function of the pseudonym, so that every edge and every visit agree.

use attune_domain::Uid;

/// Whether the visitor belongs to the permanent baseline holdout of this share (0 to 1).
pub fn is_holdout(uid: &Uid, share: f64) -> bool {
    let mut salted = *b"attune holdout v1................";
    salted[16..].copy_from_slice(&uid.0);
    let hash = xxhash_rust::xxh3::xxh3_64(&salted);
    // The top 53 bits, so that the comparison is exact in an f64.
    ((hash >> 11) as f64) < share * (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_met_and_growing_it_only_adds_visitors() {
        let uid = |n: u32| {
            let mut bytes = [1; 17];
            bytes[1..5].copy_from_slice(&n.to_le_bytes());
            Uid(bytes)
        };
        let five: Vec<u32> = (0..100_000).filter(|&n| is_holdout(&uid(n), 0.05)).collect();
        assert!((4_700..5_300).contains(&five.len()), "{}", five.len());
        assert!(five.iter().all(|&n| is_holdout(&uid(n), 0.10)));
        assert_eq!((0..1000).filter(|&n| is_holdout(&uid(n), 0.0)).count(), 0);
    }
}
