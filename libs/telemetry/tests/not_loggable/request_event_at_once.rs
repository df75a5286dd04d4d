//! A request's event waits for its trace's verdict: the way that does not wait refuses it.

fn unsampled(telemetry: &attune_telemetry::Telemetry, event: attune_telemetry::FeedbackAccepted) {
    telemetry.log(&event, None);
}

fn main() {}
