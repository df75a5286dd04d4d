//! Wire to domain and back.

use crate::bus::Decision;
use crate::sampling::{Threshold, Verdict};
use attune_domain::RequestId;
use attune_proto::convert::WireError;
use attune_proto::telemetry::v1 as wire;
use bytes::Bytes;
use prost::Message as _;

pub(crate) const MAX_DECISIONS: usize = 4096;

/// A batch as bytes, for ways that carry bytes.
pub fn encode(decisions: &[Decision]) -> Vec<u8> {
    to_wire(decisions).encode_to_vec()
}

pub fn decode(bytes: &[u8]) -> Result<Vec<Decision>, WireError> {
    let batch = wire::DecisionBatch::decode(bytes).map_err(|_| WireError::new("batch", "is malformed"))?;
    from_wire(&batch)
}

pub(crate) fn to_wire(decisions: &[Decision]) -> wire::DecisionBatch {
    wire::DecisionBatch {
        origin: decisions.first().map_or(0, |decision| decision.origin),
        decisions: decisions
            .iter()
            .map(|decision| wire::Decision {
                trace_id: Bytes::copy_from_slice(&decision.trace_id.0),
                threshold: decision.verdict.threshold.bits(),
                reasons: decision.verdict.reasons.into(),
                unix_ms: decision.unix_ms,
            })
            .collect(),
    }
}

pub(crate) fn from_wire(batch: &wire::DecisionBatch) -> Result<Vec<Decision>, WireError> {
    if batch.decisions.len() > MAX_DECISIONS {
        return Err(WireError::new("decisions", "must be at most 4096"));
    }
    let decision = |wire: &wire::Decision| {
        let trace_id = RequestId::from_slice(&wire.trace_id).ok_or(WireError::new("trace_id", "must be 16 bytes"))?;
        let threshold =
            Threshold::from_bits(wire.threshold).ok_or(WireError::new("threshold", "must be at most 2^56"))?;
        // Reasons that a newer process knows are of no use here.
        let reasons = wire.reasons as u8 & Verdict::ALL_REASONS;
        let verdict = Verdict { threshold, reasons };
        Ok(Decision { trace_id, verdict, origin: batch.origin, unix_ms: wire.unix_ms })
    };
    batch.decisions.iter().map(decision).collect()
}
