//! Offsets: one number places a record on a topic.
//!
//! The partition is in the upper 16 bits, the place within it in the lower 48. So the offset after a record is one more,
//! the offsets of one key are ordered, and a log with one partition counts from 0.

/// More than any log should have.
pub const MAX_PARTITIONS: u16 = 4_096;
const PLACE_BITS: u32 = 48;

/// The partition that an offset lies in.
pub const fn partition_of(offset: u64) -> u16 {
    (offset >> PLACE_BITS) as u16
}

/// Offset of a partition's first record.
pub const fn first_offset(partition: u16) -> u64 {
    (partition as u64) << PLACE_BITS
}

/// The partition that a key's records lie in, of so many: as Kafka's own producers choose it (murmur2).
pub fn partition_for(key: &[u8], partitions: u16) -> u16 {
    ((murmur2(key) & 0x7fff_ffff) % u32::from(partitions.max(1))) as u16
}

/// As in `org.apache.kafka.common.utils.Utils.murmur2`, after Austin Appleby's MurmurHash2.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let mut hash = SEED ^ data.len() as u32;
    let (words, rest) = data.as_chunks();
    for word in words {
        let word = u32::from_le_bytes(*word).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ (word ^ (word >> 24)).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let last = rest.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte));
        hash = (hash ^ last).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_name_their_partition() {
        for partition in [0, 1, MAX_PARTITIONS] {
            for place in [0, 1, (1 << PLACE_BITS) - 1] {
                assert_eq!(partition_of(first_offset(partition) + place), partition);
            }
        }
        assert_eq!(first_offset(0), 0);
    }

    /// The values that Kafka's own test of its function expects (`UtilsTest.testMurmur2`).
    #[test]
    fn murmur2_is_kafkas() {
        for (text, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }

    #[test]
    fn keys_spread_over_partitions() {
        let mut counts = [0; 8];
        for n in 0..8_000u32 {
            counts[usize::from(partition_for(&n.to_be_bytes(), 8))] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
        assert_eq!(partition_for(b"x", 1), 0);
    }
}
