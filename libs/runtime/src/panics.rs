//! What a panic says.

use attune_telemetry::{CodePlace, Failure, Panicked, Telemetry};

/// From now on a panic of any thread is a log line with its place and without its message, which may quote what a
/// visitor sent. For programs, not for tests: the hook is the process's.
pub fn log_panics(telemetry: &Telemetry) {
    let telemetry = telemetry.clone();
    std::panic::set_hook(Box::new(move |panic| {
        if let Some(place) = panic.location() {
            telemetry.log(&Panicked { failure: Failure::Panic, code_place: CodePlace::from(place) }, None);
        }
    }));
}
