//! Where the bytes of a writer thread go, and counting those that do not get there.

use crate::Counter;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

/// Counters of what did not get out.
#[derive(Clone)]
pub(crate) struct DropCounters {
    pub(crate) queue_full: Counter,
    pub(crate) write_failed: Counter,
}

/// Where the bytes go. A file is appended to and never grows past its limit by more than one batch.
pub(crate) enum Output {
    /// Standard output or error, on a descriptor of its own: a reader who stalls must not hold the lock under which
    /// everything else in the process prints.
    Stream(File),
    File {
        path: PathBuf,
        file: File,
        written: u64,
        limit: u64,
    },
}

impl Output {
    pub(crate) fn file(path: &Path, limit: u64) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let written = file.metadata()?.len();
        Ok(Self::File { path: path.into(), file, written, limit })
    }

    pub(crate) fn stdout() -> io::Result<Self> {
        Ok(Self::Stream(io::stdout().as_fd().try_clone_to_owned()?.into()))
    }

    pub(crate) fn stderr() -> io::Result<Self> {
        Ok(Self::Stream(io::stderr().as_fd().try_clone_to_owned()?.into()))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stream(file) => file.write_all(bytes),
            Self::File { path, file, written, limit } => {
                if *written > 0 && *written + bytes.len() as u64 > *limit {
                    let mut old = path.clone().into_os_string();
                    old.push(".1");
                    std::fs::rename(&*path, old)?;
                    *file = OpenOptions::new().create(true).append(true).open(&*path)?;
                    *written = 0;
                }
                file.write_all(bytes)?;
                *written += bytes.len() as u64;
                Ok(())
            }
        }
    }
}
