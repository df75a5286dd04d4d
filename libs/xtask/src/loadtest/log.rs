//! What stands on the platform's log of what the visitors were told is safe.

use crate::check::process::said;
use anyhow::{Context as _, bail};
use attune_lake::tables::events::EventRow;
use attune_lake::{BadField, Lake, LakeError, Table};
use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

/// Events of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Answered with 202.
    pub(crate) acknowledged: u64,
    /// Sent, and unanswered when the run ended: they may or may not be there.
    pub(crate) unanswered: u64,
    /// On the log, by (visitor, event id).
    pub(crate) logged: u64,
    /// Records of events that stand on the log already.
    pub(crate) again: u64,
}

impl Counted {
    pub(crate) const fn lost(&self) -> u64 {
        self.acknowledged.saturating_sub(self.logged)
    }

    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.acknowledged == 0 {
            bail!("no feedback was acknowledged, so none could be lost");
        }
        if self.lost() > 0 {
            bail!("{} of {} acknowledged events are not on the log", self.lost(), self.acknowledged);
        }
        let most = self.acknowledged + self.unanswered;
        if self.logged > most {
            bail!("the log has {} events, and the visitors sent {most}", self.logged);
        }
        Ok(())
    }
}

/// Distinct events whose ids begin with the run's name, and records beyond those, exported from the running platform.
pub(crate) fn count(attune: &Path, edge: &str, run: &str) -> anyhow::Result<(u64, u64)> {
    let work = tempfile::tempdir().context("create a folder for the export")?;
    let folder = work.path().join("lake");
    let mut export = Command::new(attune);
    export.args(["export", "--edge", edge, "--table", "events", "--json", "--to"]).arg(&folder);
    said(&mut export, "export the events")?;
    let lake = Lake::open(&folder).context("open the exported events")?;
    let prefix = format!("{run}-");
    let mut known = HashSet::new();
    let mut again = 0;
    for part in lake.parts(Table::Events) {
        lake.read(Table::Events, part, |row| {
            let bad = |BadField { column, reason }| LakeError::Damaged {
                path: lake.root().join(&part.file),
                detail: format!("{column} {reason}"),
            };
            let event = EventRow::from_row(row).map_err(bad)?.event;
            if event.event_id.as_str().starts_with(&prefix) && !known.insert((event.uid, event.event_id)) {
                again += 1;
            }
            Ok(())
        })
        .with_context(|| format!("read {}", part.file))?;
    }
    Ok((known.len() as u64, again))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_what_was_acknowledged_and_no_more_than_was_sent() {
        let check = |acknowledged, unanswered, logged| {
            Counted { acknowledged, unanswered, logged, again: 0 }.check().map_err(|error| error.to_string())
        };
        assert_eq!(check(10, 0, 10), Ok(()));
        assert_eq!(check(10, 2, 11), Ok(()));
        assert!(check(10, 5, 9).unwrap_err().contains("1 of 10"));
        assert!(check(10, 1, 12).unwrap_err().contains("sent 11"));
        assert!(check(0, 0, 0).is_err());
    }
}
