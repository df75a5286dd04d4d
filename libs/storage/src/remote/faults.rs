//! Storage errors as gRPC statuses and back.

use crate::StorageError;
use attune_proto::storage::v1::Fault;
use attune_proto::storage::v1::fault::{self, Fault as Kind, Unit};
use prost::Message as _;
use tonic::{Code, Status};

pub(super) fn to_status(error: StorageError) -> Status {
    let message = error.to_string();
    let (code, kind) = match error {
        StorageError::Io(text) => (Code::Internal, Kind::Io(text)),
        StorageError::Corrupt { what } => (Code::DataLoss, Kind::Corrupt(what)),
        StorageError::Invalid { field, problem } => {
            (Code::InvalidArgument, Kind::Invalid(fault::Invalid { field, problem }))
        }
        StorageError::InUse { pid } => (Code::FailedPrecondition, Kind::InUse(pid)),
        StorageError::Conflict { expected, found } => {
            (Code::Aborted, Kind::Conflict(fault::Conflict { expected, found }))
        }
        StorageError::FormatVersion { found, supported } => {
            (Code::FailedPrecondition, Kind::FormatVersion(fault::FormatVersion { found, supported }))
        }
        StorageError::Overloaded => (Code::ResourceExhausted, Kind::Overloaded(Unit {})),
        StorageError::Unavailable => (Code::Unavailable, Kind::Unavailable(Unit {})),
        StorageError::Connect { address, reason } => {
            (Code::Unavailable, Kind::Connect(fault::Connect { address, reason }))
        }
    };
    Status::with_details(code, message, Fault { fault: Some(kind) }.encode_to_vec().into())
}

pub(super) fn from_status(status: &Status) -> StorageError {
    let kind = Fault::decode(status.details()).ok().and_then(|f| f.fault);
    match kind {
        Some(Kind::Io(text)) => StorageError::Io(text),
        Some(Kind::Corrupt(what)) => StorageError::Corrupt { what },
        Some(Kind::Invalid(fault::Invalid { field, problem })) => StorageError::Invalid { field, problem },
        Some(Kind::InUse(pid)) => StorageError::InUse { pid },
        Some(Kind::Conflict(fault::Conflict { expected, found })) => StorageError::Conflict { expected, found },
        Some(Kind::FormatVersion(fault::FormatVersion { found, supported })) => {
            StorageError::FormatVersion { found, supported }
        }
        Some(Kind::Overloaded(Unit {})) => StorageError::Overloaded,
        Some(Kind::Unavailable(Unit {})) => StorageError::Unavailable,
        Some(Kind::Connect(fault::Connect { address, reason })) => StorageError::Connect { address, reason },
        // Not from a store: from the transport, or a server in between.
        None => match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => StorageError::Unavailable,
            Code::ResourceExhausted => StorageError::Overloaded,
            Code::InvalidArgument | Code::OutOfRange => StorageError::invalid("request", status.message()),
            Code::DataLoss => StorageError::corrupt(status.message()),
            _ => StorageError::Io(format!("{:?}: {}", status.code(), status.message())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_arrives_as_it_was() {
        let all = [
            StorageError::Io("disk".into()),
            StorageError::corrupt("record 5"),
            StorageError::invalid("records", "too many"),
            StorageError::InUse { pid: 7 },
            StorageError::Conflict { expected: 1, found: 2 },
            StorageError::FormatVersion { found: 9, supported: 1 },
            StorageError::Overloaded,
            StorageError::Unavailable,
            StorageError::Connect { address: "127.0.0.1:6379".into(), reason: "refused".into() },
        ];
        for error in all {
            assert_eq!(from_status(&to_status(error.clone())), error);
        }
    }

    #[test]
    fn a_lost_transport_is_unavailable() {
        for code in [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled] {
            assert_eq!(from_status(&Status::new(code, "gone")), StorageError::Unavailable);
        }
        assert!(!from_status(&Status::unimplemented("no")).is_retryable());
    }
}
