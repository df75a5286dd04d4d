//! The closed list of error codes, and the one table to gRPC, HTTP and retry.

use std::fmt;

/// Names the code exactly where several share a gRPC code.
const CODE_KEY: &str = "x-attune-code";

attune_telemetry::labels! {
    /// Why a call failed, as far as a caller must tell the difference.
    pub enum Code {
        /// A field is missing, unknown or out of range. The message names it.
        Invalid = "invalid",
        NotFound = "not_found",
        /// It was there and has been erased.
        Erased = "erased",
        /// Somebody else changed it first.
        Conflict = "conflict",
        /// Not possible in the present state.
        Precondition = "precondition",
        Unauthenticated = "unauthenticated",
        Forbidden = "forbidden",
        /// Shed; the caller may come back.
        Overloaded = "overloaded",
        /// Nobody there, or a dependency of theirs is not.
        Unavailable = "unavailable",
        /// The deadline passed.
        Late = "late",
        Cancelled = "cancelled",
        Unimplemented = "unimplemented",
        /// Stored data does not add up.
        DataLoss = "data_loss",
        /// Our fault.
        Internal = "internal",
    }
}

impl Code {
    /// gRPC code, HTTP status, and whether the same call can succeed a little later.
    const fn table(self) -> (tonic::Code, u16, bool) {
        match self {
            Self::Invalid => (tonic::Code::InvalidArgument, 422, false),
            Self::NotFound => (tonic::Code::NotFound, 404, false),
            Self::Erased => (tonic::Code::NotFound, 410, false),
            Self::Conflict => (tonic::Code::Aborted, 409, true),
            Self::Precondition => (tonic::Code::FailedPrecondition, 412, false),
            Self::Unauthenticated => (tonic::Code::Unauthenticated, 401, false),
            Self::Forbidden => (tonic::Code::PermissionDenied, 403, false),
            Self::Overloaded => (tonic::Code::ResourceExhausted, 429, true),
            Self::Unavailable => (tonic::Code::Unavailable, 503, true),
            Self::Late => (tonic::Code::DeadlineExceeded, 504, false),
            Self::Cancelled => (tonic::Code::Cancelled, 499, false),
            Self::Unimplemented => (tonic::Code::Unimplemented, 501, false),
            Self::DataLoss => (tonic::Code::DataLoss, 500, false),
            Self::Internal => (tonic::Code::Internal, 500, false),
        }
    }

    pub const fn grpc(self) -> tonic::Code {
        self.table().0
    }

    pub const fn http(self) -> u16 {
        self.table().1
    }

    pub const fn retryable(self) -> bool {
        self.table().2
    }

    pub fn as_str(self) -> &'static str {
        attune_telemetry::Label::text(self)
    }

    fn parse(text: &str) -> Option<Self> {
        <Self as attune_telemetry::Label>::all().iter().copied().find(|code| code.as_str() == text)
    }

    fn of_grpc(code: tonic::Code) -> Self {
        match code {
            tonic::Code::InvalidArgument | tonic::Code::OutOfRange => Self::Invalid,
            tonic::Code::NotFound => Self::NotFound,
            tonic::Code::AlreadyExists | tonic::Code::Aborted => Self::Conflict,
            tonic::Code::FailedPrecondition => Self::Precondition,
            tonic::Code::Unauthenticated => Self::Unauthenticated,
            tonic::Code::PermissionDenied => Self::Forbidden,
            tonic::Code::ResourceExhausted => Self::Overloaded,
            tonic::Code::Unavailable => Self::Unavailable,
            tonic::Code::DeadlineExceeded => Self::Late,
            tonic::Code::Cancelled => Self::Cancelled,
            tonic::Code::Unimplemented => Self::Unimplemented,
            tonic::Code::DataLoss => Self::DataLoss,
            tonic::Code::Ok | tonic::Code::Unknown | tonic::Code::Internal => Self::Internal,
        }
    }

    /// Of a status that came over the wire.
    pub fn of(status: &tonic::Status) -> Self {
        Self::named(status).unwrap_or_else(|| Self::of_grpc(status.code()))
    }

    /// As our services say it.
    fn named(status: &tonic::Status) -> Option<Self> {
        let named = status.metadata().get(CODE_KEY).and_then(|value| value.to_str().ok()).and_then(Self::parse);
        named.filter(|code| code.grpc() == status.code())
    }

    /// Whether nobody answered: the service is away, or its connection broke under the call.
    pub(crate) fn is_away(status: &tonic::Status) -> bool {
        match Self::named(status) {
            Some(code) => code == Self::Unavailable,
            None => matches!(
                status.code(),
                tonic::Code::Unavailable | tonic::Code::Cancelled | tonic::Code::Internal | tonic::Code::Unknown
            ),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failed call: a code for programs, a message for people. The message may name fields, never visitors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Error {
    pub code: Code,
    pub message: String,
}

impl Error {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::Invalid, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        let mut status = tonic::Status::new(error.code.grpc(), error.message);
        let value = tonic::metadata::MetadataValue::from_static(error.code.as_str());
        status.metadata_mut().insert(CODE_KEY, value);
        status
    }
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        Self::new(Code::of(&status), status.message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attune_telemetry::Label as _;
    use attune_telemetry::grpc::http_status;

    #[test]
    fn every_code_survives_the_wire() {
        for code in Code::all() {
            let status = tonic::Status::from(Error::new(*code, "limit: must be at most 100"));
            let headers = status.into_http::<()>().into_parts().0.headers;
            let arrived = tonic::Status::from_header_map(&headers).unwrap();
            assert_eq!(Error::from(arrived), Error::new(*code, "limit: must be at most 100"));
        }
    }

    /// A request metric knows the gRPC code only, and must not tell another story than the answer does.
    #[test]
    fn http_follows_grpc() {
        for code in Code::all() {
            let want = if *code == Code::Erased { 410 } else { http_status(code.grpc()) };
            assert_eq!(code.http(), want, "{code}");
        }
    }

    #[test]
    fn a_name_that_contradicts_its_status_is_ignored() {
        let mut status = tonic::Status::unavailable("x");
        status.metadata_mut().insert(CODE_KEY, "erased".parse().unwrap());
        assert_eq!(Code::of(&status), Code::Unavailable);
        assert_eq!(Code::of(&tonic::Status::unknown("x")), Code::Internal);
    }
}
