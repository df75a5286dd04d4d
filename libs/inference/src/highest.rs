//! Which of many values can be among the highest: the first step of a selection, without a branch for a value.

use crate::Isa;
use crate::multiversion::multiversion;
use crate::sampling::round;

/// Finds what is among the highest. Keep one and use it anew.
#[derive(Debug, Default)]
pub struct Highest {
    steps: Vec<u8>,
    places: Vec<u32>,
}

impl Highest {
    /// The places of the `k` highest values and of few others, in their order; all where there are no more than `k`.
    ///
    /// Each value is put on one of 256 steps from the highest down to the lowest, and what stands on the first steps by
    /// which `k` have come is found. A value that is not a number is on any step.
    pub fn about(&mut self, values: &[f32], k: usize) -> &[u32] {
        self.about_on(Isa::detect(), values, k)
    }

    fn about_on(&mut self, isa: Isa, values: &[f32], k: usize) -> &[u32] {
        self.steps.resize(values.len().next_multiple_of(LINE), 0);
        self.places.resize(self.steps.len(), 0);
        let (mut cut, mut count) = (0, 0);
        steps_down_on(isa, values, k, &mut self.steps, &mut cut);
        places_on(isa, &self.steps[..values.len()], cut, &mut self.places, &mut count);
        &self.places[..count]
    }
}

const LINE: usize = 64;

multiversion! {
    /// The steps of the values, and the first by which `k` have come. `steps` is as long as `values` or longer.
    fn _steps_down, steps_down_on = steps_down_any(values: &[f32], k: usize, steps: &mut [u8], cut: &mut u8)
}

#[inline(always)]
fn steps_down_any(values: &[f32], k: usize, steps: &mut [u8], cut: &mut u8) {
    let (highest, lowest) = (highest(values, 1.0), -highest(values, -1.0));
    let per_step = if highest > lowest { 255.0 / (highest - lowest) } else { 0.0 };
    for (step, &value) in steps.iter_mut().zip(values) {
        *step = round((highest - value) * per_step).1 as u8;
    }
    steps[values.len()..].fill(u8::MAX);
    // The steps before this one have fewer than `k` values.
    let mut first = 0u8;
    for width in [128, 64, 32, 16, 8, 4, 2, 1] {
        if count_before(steps, first + width) < k {
            first += width;
        }
    }
    *cut = first;
}

/// The highest of the values times `sign`.
#[inline(always)]
fn highest(values: &[f32], sign: f32) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [f32::MIN; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for chunk in whole {
        for l in 0..LANES {
            let value = chunk[l] * sign;
            lanes[l] = if value > lanes[l] { value } else { lanes[l] };
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = if value * sign > *lane { value * sign } else { *lane };
    }
    lanes.into_iter().fold(f32::MIN, |a, b| if a > b { a } else { b })
}

/// How many steps are lower than this one.
#[inline(always)]
fn count_before(steps: &[u8], step: u8) -> usize {
    let mut count = 0;
    // A lane counts no further than its byte can.
    for part in steps.chunks(LINE * 255) {
        let mut lanes = [0u8; LINE];
        let (whole, rest) = part.as_chunks::<LINE>();
        for chunk in whole {
            for l in 0..LINE {
                lanes[l] += u8::from(chunk[l] < step);
            }
        }
        count += lanes.iter().map(|&lane| u32::from(lane)).sum::<u32>() as usize;
        count += rest.iter().filter(|&&other| other < step).count();
    }
    count
}

/// The places of the steps up to `cut`. `places` is as long as `steps` or longer.
fn places_on(isa: Isa, steps: &[u8], cut: u8, places: &mut [u32], count: &mut usize) {
    #[cfg(target_arch = "x86_64")]
    if isa == Isa::Avx512 {
        #[expect(unsafe_code, reason = "calls a function compiled for an instruction set")]
        // SAFETY: the variant is only made by `Isa::available`, after detection of these features.
        return unsafe { places_avx512(steps, cut, places, count) };
    }
    let _ = isa;
    places_from(0, steps, cut, places, count);
}

fn places_from(first: usize, steps: &[u8], cut: u8, places: &mut [u32], count: &mut usize) {
    for (i, &step) in steps.iter().enumerate() {
        places[*count] = (first + i) as u32;
        *count += usize::from(step <= cut);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn places_avx512(steps: &[u8], cut: u8, places: &mut [u32], count: &mut usize) {
    use std::arch::x86_64::{
        _mm_cmple_epu8_mask, _mm_loadu_si128, _mm_set1_epi8, _mm512_add_epi32, _mm512_mask_compressstoreu_epi32,
        _mm512_set1_epi32, _mm512_setr_epi32,
    };
    const LANES: usize = 16;
    let (whole, rest) = steps.as_chunks::<LANES>();
    let mut numbers = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for chunk in whole {
        let room = &mut places[*count..*count + LANES];
        #[expect(unsafe_code, reason = "a vector load and a vector store take pointers")]
        // SAFETY: the load reads the 16 bytes of `chunk`; the store writes at most the 16 numbers of `room`.
        unsafe {
            let chunk = _mm_loadu_si128(chunk.as_ptr().cast());
            let kept = _mm_cmple_epu8_mask(chunk, _mm_set1_epi8(cut.cast_signed()));
            _mm512_mask_compressstoreu_epi32(room.as_mut_ptr().cast(), kept, numbers);
            *count += kept.count_ones() as usize;
        }
        numbers = _mm512_add_epi32(numbers, _mm512_set1_epi32(LANES as i32));
    }
    places_from(steps.len() - rest.len(), rest, cut, places, count);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn holds_the_highest_in_order_and_the_same_on_every_instruction_set(
            levels in prop::collection::vec(-300i16..300, 0..700), share in 0f32..1.2, scale in 1e-3f32..1e3,
        ) {
            let values: Vec<f32> = levels.iter().map(|&level| f32::from(level) * scale).collect();
            let k = (share * values.len() as f32) as usize;
            let found = Highest::default().about(&values, k).to_vec();
            prop_assert!(found.is_sorted());
            for &isa in Isa::available() {
                let mut again = Highest::default();
                prop_assert_eq!(again.about_on(isa, &values, k), &found);
            }
            let mut sorted = values.clone();
            sorted.sort_unstable_by(|a, b| b.total_cmp(a));
            if let Some(&last) = sorted.get(k.wrapping_sub(1)) {
                for (i, &value) in values.iter().enumerate() {
                    prop_assert!(value < last || found.contains(&(i as u32)), "{i}: {value}, k-th is {last}");
                }
                let step = (sorted[0] - sorted[sorted.len() - 1]) / 255.0;
                prop_assert!(found.iter().all(|&i| values[i as usize] >= last - 1.01 * step));
            }
        }
    }

    #[test]
    fn what_is_not_a_number_does_no_harm() {
        let values = [f32::NAN, 1.0, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0];
        for k in 0..=values.len() + 1 {
            let found = Highest::default().about(&values, k).to_vec();
            assert!(found.iter().all(|&i| (i as usize) < values.len()));
        }
        assert_eq!(Highest::default().about(&[], 3), &[] as &[u32]);
    }
}
