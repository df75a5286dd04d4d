//! Cohorts: who shares a candidate set. All parts come from closed lists, so a visitor cannot mint a key.

use attune_domain::{Context, Device, Geo, PageType};
use std::fmt;

/// (taste cluster, geo bucket, page type); policy and model version are those of the process that holds the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CohortKey {
    pub cluster: u16,
    pub geo: Geo,
    pub page: PageType,
}

impl CohortKey {
    /// The context that stands for the cohort when its set is built.
    pub fn context(&self) -> Context {
        Context { page: self.page, device: Device::Other, geo: self.geo }
    }

    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let key = Self {
            cluster: parts.next()?.parse().ok()?,
            geo: Geo::parse(parts.next()?)?,
            page: PageType::parse(parts.next()?)?,
        };
        parts.next().is_none().then_some(key)
    }
}

impl fmt::Display for CohortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.cluster, self.geo, self.page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let key = CohortKey { cluster: 7, geo: Geo::EuWest, page: PageType::Cart };
        assert_eq!(CohortKey::parse(&key.to_string()), Some(key));
        assert_eq!(CohortKey::parse("7/eu-west/cart/x"), None);
        assert_eq!(CohortKey::parse("7/mars/cart"), None);
    }
}
