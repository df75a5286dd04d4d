//! Where long work tells how far it is.

use indicatif::{ProgressBar, ProgressStyle};
use std::sync::Mutex;

/// Receives the progress of training and evaluation.
pub trait Progress: Sync {
    /// A stage of `total` steps begins; the stage before it is done.
    fn stage(&self, name: &str, total: u64);
    /// `done` steps of the stage are done.
    fn tick(&self, done: u64, note: &str);
}

/// Says nothing.
#[derive(Debug, Default, Clone, Copy)]
pub struct Quiet;

impl Progress for Quiet {
    fn stage(&self, _: &str, _: u64) {}
    fn tick(&self, _: u64, _: &str) {}
}

/// A progress bar on stderr; where stderr is no terminal, indicatif draws nothing.
#[derive(Default)]
pub struct Bar(Mutex<Option<ProgressBar>>);

impl Progress for Bar {
    fn stage(&self, name: &str, total: u64) {
        let style = ProgressStyle::with_template("{prefix:24} [{bar:32}] {pos}/{len} {elapsed} {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(total).with_style(style).with_prefix(name.to_owned());
        if let Ok(mut slot) = self.0.lock()
            && let Some(before) = slot.replace(bar)
        {
            before.finish();
        }
    }

    fn tick(&self, done: u64, note: &str) {
        if let Ok(slot) = self.0.lock()
            && let Some(bar) = slot.as_ref()
        {
            bar.set_position(done);
            if !note.is_empty() {
                bar.set_message(note.to_owned());
            }
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Ok(slot) = self.0.get_mut()
            && let Some(bar) = slot.take()
        {
            bar.finish();
        }
    }
}
