//! One body, compiled for each instruction set.

/// Defines `$name`, which runs `$body` with the widest vectors this CPU has, and `$on`, which runs it on a given
/// [`Isa`](crate::Isa). The body must be `#[inline(always)]` and use plain operations only, so that all versions give
/// the same bits.
macro_rules! multiversion {
    ($(#[$doc:meta])* $vis:vis fn $name:ident, $on:ident = $body:ident($($arg:ident: $ty:ty),* $(,)?)) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments, reason = "columns of one kernel")]
        $vis fn $name($($arg: $ty),*) {
            $on($crate::Isa::detect(), $($arg),*);
        }

        #[allow(clippy::too_many_arguments, reason = "columns of one kernel")]
        fn $on(isa: $crate::Isa, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($arg: $ty),*) {
                    $body($($arg),*);
                }

                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $ty),*) {
                    $body($($arg),*);
                }

                #[expect(unsafe_code, reason = "calls a function compiled for an instruction set")]
                // SAFETY: the variant is only made by `Isa::available`, after detection of these features.
                match isa {
                    $crate::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    $crate::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::Isa::Portable => {}
                }
            }
            let _ = isa;
            $body($($arg),*);
        }
    };
}

pub(crate) use multiversion;
