//! Engines of this process that take no more writes, because nobody knows what a failed one left on the disk. They read
//! on, and write again once they are opened anew, by the next process.

use crate::StorageError;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;
use tokio::sync::watch;

static CLOSED: LazyLock<watch::Sender<Option<PathBuf>>> = LazyLock::new(|| watch::Sender::new(None));

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// With less than this an engine does not get far.
const ROOM: usize = 32 << 20;

pub(super) fn tell(dir: &Path) {
    CLOSED.send_if_modified(|closed| {
        let first = closed.is_none();
        closed.get_or_insert_with(|| dir.to_owned());
        first
    });
}

/// Waits until an embedded store of this process takes no more writes and its disk has room again: then the process shall
/// end with this error and be started anew. Before, nothing is won by a restart: what can be read is still served.
pub async fn must_restart() -> StorageError {
    let mut closed = CLOSED.subscribe();
    let Ok(dir) = closed.wait_for(Option::is_some).await.map(|dir| dir.clone().unwrap_or_default()) else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let place = dir.clone();
        if tokio::task::spawn_blocking(move || has_room(&place)).await.unwrap_or(false) {
            let dir = dir.display();
            return StorageError::Io(format!(
                "{dir} takes no more writes after one that failed, until it is opened anew"
            ));
        }
    }
}

fn has_room(dir: &Path) -> bool {
    let write = || {
        let mut file = tempfile::tempfile_in(dir)?;
        file.write_all(&vec![1; ROOM])?;
        file.sync_data()
    };
    write().is_ok()
}
