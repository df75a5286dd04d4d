//! How far an answer has come down the ladder, and why.

use attune_domain::{Level, LevelReason};

/// Starts at level 0 and only falls; the reason is that of the lowest fall, the first one among equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ladder {
    pub(crate) level: Level,
    pub(crate) reason: Option<LevelReason>,
}

impl Ladder {
    pub(crate) const TOP: Self = Self { level: Level::Fresh, reason: None };

    pub(crate) fn fall(&mut self, level: Level, reason: LevelReason) {
        if level > self.level || self.reason.is_none() {
            self.reason = Some(reason);
        }
        self.level = self.level.max(level);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_fall_names_the_reason() {
        let mut ladder = Ladder::TOP;
        ladder.fall(Level::Fresh, LevelReason::BanditUnavailable);
        assert_eq!(ladder, Ladder { level: Level::Fresh, reason: Some(LevelReason::BanditUnavailable) });
        ladder.fall(Level::Unranked, LevelReason::RankingUnavailable);
        ladder.fall(Level::Stale, LevelReason::StateBehind);
        assert_eq!(ladder, Ladder { level: Level::Unranked, reason: Some(LevelReason::RankingUnavailable) });
    }
}
