//! Progress of an import, as its reader sees it: bytes of one file after another.

use indicatif::{ProgressBar, ProgressStyle};
use std::sync::Mutex;

/// Told how far an import is. Called from the importing thread, at most once per block of input.
pub trait ImportProgress {
    fn file(&self, name: &str, bytes: u64);
    /// Bytes of the current file read so far.
    fn at(&self, bytes: u64);
    fn done(&self);
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl ImportProgress for NoProgress {
    fn file(&self, _: &str, _: u64) {}
    fn at(&self, _: u64) {}
    fn done(&self) {}
}

/// A bar on stderr; hides itself where stderr is no terminal.
#[derive(Default)]
pub struct BarProgress {
    bar: Mutex<Option<ProgressBar>>,
}

impl BarProgress {
    fn with(&self, act: impl FnOnce(&mut Option<ProgressBar>)) {
        act(&mut self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

impl ImportProgress for BarProgress {
    fn file(&self, name: &str, bytes: u64) {
        self.done();
        let style = ProgressStyle::with_template("{msg:14} {wide_bar} {bytes:>10}/{total_bytes:10} {eta:>4}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(bytes).with_style(style).with_message(name.to_owned());
        self.with(|slot| *slot = Some(bar));
    }

    fn at(&self, bytes: u64) {
        self.with(|slot| {
            if let Some(bar) = slot {
                bar.set_position(bytes);
            }
        });
    }

    fn done(&self) {
        self.with(|slot| {
            if let Some(bar) = slot.take() {
                bar.finish();
            }
        });
    }
}
