//! Traces as a file of OTLP JSON: one `ExportTraceServiceRequest` a line and trace.

use super::otlp::request;
use super::{Destination, Lost, Queue};
use crate::settle::KeptTrace;
use crate::sink::Output;
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct TraceFile {
    output: Output,
    lines: Vec<u8>,
}

impl TraceFile {
    pub(crate) fn new(output: Output) -> Self {
        Self { output, lines: Vec::new() }
    }
}

impl Destination for TraceFile {
    const LINGER: Duration = Duration::ZERO;

    fn deliver(&mut self, batch: &[Arc<KeptTrace>], _: &Queue) -> Result<(), Lost> {
        self.lines.clear();
        for trace in batch {
            let start = self.lines.len();
            // Strings, numbers and maps with string keys always serialise; should that change, no half line remains.
            match serde_json::to_writer(&mut self.lines, &request([trace])) {
                Ok(()) => self.lines.push(b'\n'),
                Err(_) => self.lines.truncate(start),
            }
        }
        self.output.write(&self.lines).map_err(|_| Lost::WriteFailed)
    }
}
