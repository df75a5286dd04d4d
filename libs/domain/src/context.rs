//! Where and when a visitor looks. Closed lists only: a visitor cannot mint a value.

macro_rules! closed_list {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $($variant),+ }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }

            pub const fn code(self) -> u8 {
                self as u8
            }

            pub fn from_code(code: u8) -> Option<Self> {
                Self::ALL.get(code as usize).copied()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use closed_list;

closed_list! {
    /// The kind of page that asks.
    PageType { Home = "home", Product = "product", Search = "search", Cart = "cart" }
}

closed_list! {
    /// Device class; anything unknown is `other`.
    Device { Other = "other", Desktop = "desktop", Mobile = "mobile", Tablet = "tablet", Tv = "tv" }
}

closed_list! {
    /// Geo bucket; anything unknown is `other`.
    Geo {
        Other = "other", UsWest = "us-west", UsEast = "us-east", UsCentral = "us-central", EuWest = "eu-west",
        EuCentral = "eu-central", ApSouth = "ap-south", ApNortheast = "ap-northeast", SaEast = "sa-east",
    }
}

closed_list! {
    /// How much of a visitor is known: no events, fewer than 5, fewer than 30, or more, among the events in the window.
    Segment { New = "new", Casual = "casual", Active = "active", Power = "power" }
}

/// What a request says about its circumstances, besides the visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    pub page: PageType,
    pub device: Device,
    pub geo: Geo,
}

impl Context {
    pub const DEFAULT: Self = Self { page: PageType::Home, device: Device::Other, geo: Geo::Other };
}
