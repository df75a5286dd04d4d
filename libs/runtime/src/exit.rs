//! Why a program ended, as a number.

/// Exit codes besides 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// A comparison found a difference.
    Differs = 1,
    /// Wrong arguments or configuration.
    Usage = 64,
    /// Bad data.
    Data = 65,
    /// Our fault.
    Internal = 70,
    /// Try again later: a port, a state folder or a dependency is in use or away.
    TryLater = 75,
}

impl Exit {
    /// What a program that ended with this code meant by it.
    pub fn from_code(code: i32) -> Option<Self> {
        [Self::Differs, Self::Usage, Self::Data, Self::Internal, Self::TryLater]
            .into_iter()
            .find(|exit| *exit as i32 == code)
    }
}

/// An error that knows its exit code. Its text is the whole chain, so it has no source of its own to be printed twice.
#[derive(Debug, thiserror::Error)]
#[error("{cause:#}")]
pub struct Fatal {
    pub exit: Exit,
    cause: anyhow::Error,
}

impl Fatal {
    pub fn new(exit: Exit, cause: impl Into<anyhow::Error>) -> Self {
        Self { exit, cause: cause.into() }
    }

    /// The code an error carries; 70 when none was attached.
    pub fn code_of(error: &anyhow::Error) -> Exit {
        error.chain().find_map(|cause| cause.downcast_ref::<Self>()).map_or(Exit::Internal, |fatal| fatal.exit)
    }
}

/// `.or_exit(Exit::Data)` on a result.
pub trait OrExit<T> {
    fn or_exit(self, exit: Exit) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit) -> anyhow::Result<T> {
        self.map_err(|error| Fatal::new(exit, error).into())
    }
}
