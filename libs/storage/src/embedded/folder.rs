//! A store's folder: who owns it, and which format it has.
//!
//! Always holds: one process at a time has the folder open. The lock is the kernel's, so it ends with the process
//! however that ends; the number in the file only tells others whom to ask.

use crate::StorageError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::time::Duration;

/// Format of the folders this build writes, all stores together.
pub(super) const FORMAT: u32 = 2;

/// How long a folder of this same process is waited for.
const OWN_ATTEMPTS: u32 = 100;
const OWN_PAUSE: Duration = Duration::from_millis(10);

/// Holds the lock until dropped.
pub(super) struct Folder {
    _lock: File,
}

impl Folder {
    /// Takes the folder, making it where there is none.
    pub(super) fn open(dir: &Path) -> Result<Self, StorageError> {
        std::fs::create_dir_all(dir).map_err(|e| io("create", dir, &e))?;
        let path = dir.join("LOCK");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| io("open", &path, &e))?;
        let mut attempts = 0;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    let pid = owner(&mut lock);
                    attempts += 1;
                    // This process itself is just letting go of it: a read that nobody waits for any more may outlast its
                    // store by a moment.
                    if pid != std::process::id() || attempts > OWN_ATTEMPTS {
                        return Err(StorageError::InUse { pid });
                    }
                    std::thread::sleep(OWN_PAUSE);
                }
                Err(TryLockError::Error(e)) => return Err(io("lock", &path, &e)),
            }
        }
        let write = |lock: &mut File| {
            lock.set_len(0)?;
            lock.rewind()?;
            writeln!(lock, "{}", std::process::id())
        };
        write(&mut lock).map_err(|e| io("write", &path, &e))?;
        check_format(dir)?;
        Ok(Self { _lock: lock })
    }
}

/// Process that holds the lock; 0 while it has not written its number yet.
fn owner(lock: &mut File) -> u32 {
    let mut text = String::new();
    let _ = lock.rewind().and_then(|()| lock.read_to_string(&mut text));
    text.trim().parse().unwrap_or(0)
}

fn check_format(dir: &Path) -> Result<(), StorageError> {
    let path = dir.join("FORMAT");
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let found =
                text.trim().parse().map_err(|_| StorageError::corrupt(format!("format file {}", path.display())))?;
            if found == FORMAT { Ok(()) } else { Err(StorageError::FormatVersion { found, supported: FORMAT }) }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            // Written aside and renamed: a torn format file would lock its owner out.
            let aside = dir.join("FORMAT.new");
            let write = || {
                let mut file = File::create(&aside)?;
                writeln!(file, "{FORMAT}")?;
                file.sync_all()?;
                std::fs::rename(&aside, &path)?;
                File::open(dir)?.sync_all()
            };
            write().map_err(|e| io("write", &path, &e))
        }
        Err(e) => Err(io("read", &path, &e)),
    }
}

fn io(what: &str, path: &Path, error: &std::io::Error) -> StorageError {
    StorageError::Io(format!("{what} {}: {error}", path.display()))
}
