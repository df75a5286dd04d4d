//! Stdout for results, and the one line that explains a failure.

use anyhow::Context as _;
use attune_runtime::{Exit, Fatal};
use serde::Serialize;
use std::io::{ErrorKind, Write as _};

/// Prints a result and a line end. A reader that has gone away is no failure.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("write to stdout"),
    }
}

/// Prints a result as one line of JSON.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&serde_json::to_string(value).context("write the result as JSON")?)
}

/// Says something that is no result. Nobody is left to tell if that fails.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// An error and its causes in one line.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        // Some errors repeat their cause's text.
        if !parts.iter().any(|part| part.ends_with(&text)) {
            parts.push(text);
        }
        // A `Fatal` already tells its causes.
        if cause.is::<Fatal>() {
            break;
        }
    }
    parts.join(": ")
}

/// Bad data, with a message of our own.
pub(crate) fn bad_data(message: impl Into<String>) -> anyhow::Error {
    Fatal::new(Exit::Data, anyhow::Error::msg(message.into())).into()
}

/// Wrong arguments, with a message of our own.
pub(crate) fn bad_usage(message: impl Into<String>) -> anyhow::Error {
    Fatal::new(Exit::Usage, anyhow::Error::msg(message.into())).into()
}

/// A bar on stderr for long work, where somebody looks.
pub(crate) fn progress_bar(what: &'static str, total: u64) -> indicatif::ProgressBar {
    let style = indicatif::ProgressStyle::with_template("{prefix:24} [{bar:32}] {pos}/{len} {elapsed}");
    let style = style.unwrap_or_else(|_| indicatif::ProgressStyle::default_bar());
    indicatif::ProgressBar::new(total).with_style(style).with_prefix(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use attune_runtime::OrExit as _;

    #[test]
    fn a_failure_is_one_line_without_repetition() {
        let io = std::io::Error::other("disk\nfull");
        let error = anyhow::Error::new(io).context("save");
        assert_eq!(one_line(&error), "save: disk full");
        let fatal = Err::<(), _>(error).or_exit(Exit::Data).unwrap_err();
        assert_eq!(one_line(&fatal), "save: disk full");
        assert_eq!(one_line(&fatal.context("import")), "import: save: disk full");
    }
}
