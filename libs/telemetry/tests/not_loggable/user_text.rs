//! The visitor of an event is a uid, which is written as its hash; a raw user id does not fit.

use attune_telemetry::{RequestFailed, UserUpdated};

fn leak(raw: String, failed: RequestFailed) -> UserUpdated {
    UserUpdated { request_id: failed.request_id, user: Some(raw), attributes: 1, offset: 1 }
}

fn main() {}
