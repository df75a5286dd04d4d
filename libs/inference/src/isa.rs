//! Instruction sets with a kernel of their own.

/// Widest first; all give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    Avx512,
    Avx2,
    /// Any CPU. Fused multiply-add is a library call where the build target lacks it, so this one is slow.
    Portable,
}

impl Isa {
    /// The widest one this CPU has. The standard library caches the detection.
    pub fn detect() -> Self {
        Self::available()[0]
    }

    /// Those this CPU has, widest first; the portable one is always last.
    pub fn available() -> &'static [Self] {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                return &[Self::Avx512, Self::Avx2, Self::Portable];
            }
            return &[Self::Avx2, Self::Portable];
        }
        &[Self::Portable]
    }
}
