//! Promotions over the event log, on the back-ends that one process can open.

use attune_domain::RequestId;
use attune_storage::{EmbeddedEventLog, EventLog, EventLogBus, MemoryEventLog};
use attune_telemetry::bus::{Decision, DecisionBus as _, DecisionSink};
use attune_telemetry::sampling::{Threshold, Verdict};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

#[derive(Default)]
struct Heard(Mutex<Vec<Decision>>);

impl DecisionSink for Heard {
    fn hear(&self, decisions: &[Decision]) {
        self.0.lock().extend_from_slice(decisions);
    }
}

fn decision(n: u8) -> Decision {
    let verdict = Verdict { threshold: Threshold::of_share(0.5), reasons: 8 };
    Decision { trace_id: RequestId([n; 16]), verdict, origin: 7, unix_ms: 123 }
}

#[tokio::test]
async fn what_one_publishes_the_others_hear_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let logs: [Arc<dyn EventLog>; 2] =
        [Arc::new(MemoryEventLog::default()), Arc::new(EmbeddedEventLog::open(dir.path()).unwrap())];
    for log in logs {
        let publisher = EventLogBus::connect(Arc::clone(&log), None);
        publisher.publish(vec![decision(1)]);
        let topic = attune_storage::Topic::TraceDecisions;
        while log.bounds(topic).await.unwrap().end == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let heard = Arc::new(Heard::default());
        let _listener = EventLogBus::connect(Arc::clone(&log), Some(heard.clone()));
        // Until the listener has found the end, nothing is for it.
        let mut n = 2;
        while heard.0.lock().is_empty() {
            publisher.publish(vec![decision(n), decision(n)]);
            n = n.wrapping_add(1).max(2);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let first = heard.0.lock()[0];
        assert_eq!(first, Decision { trace_id: first.trace_id, ..decision(2) });
        assert_ne!(first.trace_id, decision(1).trace_id, "what was before is not heard");
        assert_eq!(publisher.lost(), 0);
    }
}
