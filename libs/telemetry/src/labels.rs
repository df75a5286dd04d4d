//! Metric labels: closed lists whose every value is known before the first request.

use attune_domain::{
    CacheStatus, Device, EventKind, Geo, LevelReason, PageType, Reason, Segment, Source, Tier, Variant,
};

/// A closed list that can be a metric label.
pub trait Label: Copy + Send + Sync + 'static {
    fn all() -> &'static [Self];
    fn text(self) -> &'static str;
    /// Position in [`all`](Self::all).
    fn index(self) -> usize;
}

macro_rules! domain_labels {
    ($($name:ty),+ $(,)?) => {$(
        impl Label for $name {
            fn all() -> &'static [Self] {
                Self::ALL
            }

            fn text(self) -> &'static str {
                self.as_str()
            }

            fn index(self) -> usize {
                self.code() as usize
            }
        }
    )+};
}
domain_labels!(CacheStatus, Device, EventKind, Geo, LevelReason, PageType, Reason, Segment, Source, Tier, Variant);

/// Declares a closed list of a service's own: an enum that is a [`Label`].
///
/// `labels! { /// Where candidates come from. pub enum CandidateSource { Ann = "ann", Trending = "trending" } }`
#[macro_export]
macro_rules! labels {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $vis enum $name { $($(#[$variant_meta])* $variant),+ }

        impl $crate::Label for $name {
            fn all() -> &'static [Self] {
                &[$(Self::$variant),+]
            }

            fn text(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}
