//! A server that does not outlive this process, whatever ends it.
//!
//! A shell starts the server and reads a pipe that only this process holds open for writing. The kernel closes it when the
//! process ends, be it by SIGKILL or by an exit that runs no destructors, and the shell then kills the server and removes its
//! folder. (`PR_SET_PDEATHSIG` would not do: it fires when the thread ends that started the server, and a test has a thread of
//! its own.)
//!
//! The shell collects the server only after it has read, so the server's id is not another process' meanwhile.

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::Duration;

/// `$1` is the folder, `$2` the log, the rest the server. A word on the pipe asks that the folder be kept.
const SUPERVISE: &str = r#"
folder=$1 log=$2
shift 2
"$@" </dev/null >>"$log" 2>&1 &
echo $!
read -r word
kill -9 $! 2>/dev/null
wait
[ "$word" = keep ] || rm -rf "$folder"
"#;

#[derive(Debug)]
pub(crate) struct Supervised {
    server: Pid,
    supervisor: Child,
    pipe: Option<ChildStdin>,
}

impl Supervised {
    pub(crate) fn start(server: &[String], folder: &Path, log: &Path) -> anyhow::Result<Self> {
        let mut supervisor = Command::new("sh");
        supervisor.args(["-c", SUPERVISE, "sh"]).arg(folder).arg(log).args(server);
        supervisor.env("TMPDIR", folder);
        // In a group of its own, an interrupt from the terminal reaches this process only.
        supervisor.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut supervisor = supervisor.spawn().context("start a shell")?;
        let pipe = supervisor.stdin.take();
        let said = supervisor.stdout.take().context("read from the shell")?;
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line).context("read the server's process id")?;
        let server = line.trim().parse().ok().and_then(Pid::from_raw).context("read the server's process id")?;
        Ok(Self { server, supervisor, pipe })
    }

    pub(crate) fn id(&self) -> u32 {
        self.server.as_raw_nonzero().get().cast_unsigned()
    }

    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        if !self.is_running() {
            bail!("the server has ended");
        }
        kill_process(self.server, signal).context("send a signal to the server")
    }

    /// Returns when every thread stands: the kernel stops them one by one, and one of them could still answer.
    pub(crate) fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)?;
        while !self.stands()? {
            if !self.is_running() {
                bail!("the server has ended");
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    pub(crate) fn is_running(&self) -> bool {
        !matches!(state(&self.files().join("stat")), None | Some('Z' | 'X'))
    }

    fn stands(&self) -> anyhow::Result<bool> {
        let threads = fs::read_dir(self.files().join("task")).context("list the server's threads")?;
        let mut states = threads.filter_map(Result::ok).map(|thread| state(&thread.path().join("stat")));
        Ok(states.all(|state| matches!(state, None | Some('T' | 'Z' | 'X'))))
    }

    fn files(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.id()))
    }

    /// Kills the server and leaves its folder.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        if let Some(mut pipe) = self.pipe.take() {
            pipe.write_all(b"keep\n").context("speak to the shell")?;
        }
        self.supervisor.wait().context("wait for the shell").map(drop)
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.pipe = None;
        let _ = self.supervisor.wait();
    }
}

/// The letter that `proc_pid_stat(5)` explains, or none where the process or thread is gone.
fn state(stat: &Path) -> Option<char> {
    let stat = fs::read_to_string(stat).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}
