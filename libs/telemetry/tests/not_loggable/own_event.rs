//! The closed list of events: a crate outside cannot add to it.

use attune_telemetry::{EventSpec, Fields, LogEvent, Subject};

struct Leak;

impl LogEvent for Leak {
    const SPEC: &'static EventSpec = attune_telemetry::EVENTS[0];

    fn subject(&self) -> Subject {
        Subject::default()
    }

    fn metrics(&self, _: &mut Fields<'_>) {}

    fn context(&self, _: &mut Fields<'_>) {}
}

fn main() {}
