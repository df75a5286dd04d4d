//! The shop's own system, which knows more of a visitor than the visits show, and states it at the operators' door.

use super::client::EdgeClient;
use attune_domain::UserAttributes;
use attune_runtime::{Exit, OrExit as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct Shop {
    client: EdgeClient,
    working: AtomicBool,
    stated: AtomicU64,
}

impl Shop {
    /// `admin` is the edge's operators' address.
    pub(crate) fn open(admin: &str) -> anyhow::Result<Self> {
        let client = EdgeClient::new(admin, TIMEOUT).or_exit(Exit::Usage)?;
        Ok(Self { client, working: AtomicBool::new(true), stated: AtomicU64::new(0) })
    }

    /// From now on nothing is stated, and nobody is told.
    pub(crate) fn fails(&self) {
        self.working.store(false, Ordering::Relaxed);
    }

    /// Visitors whose attributes were stated.
    pub(crate) fn stated(&self) -> u64 {
        self.stated.load(Ordering::Relaxed)
    }

    pub(super) async fn states(&self, user_id: &str, attributes: &UserAttributes) {
        if self.working.load(Ordering::Relaxed) && self.client.state_user(user_id, attributes).await.is_ok() {
            self.stated.fetch_add(1, Ordering::Relaxed);
        }
    }
}
