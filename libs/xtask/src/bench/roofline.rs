//! What this machine can do at all, measured beside every table: without it a figure of a shared machine says little.

use serde::Serialize;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Roofline {
    /// A system call that does nothing to speak of.
    pub(crate) syscall_ns: f64,
    /// Summing memory far larger than the caches.
    pub(crate) read_gb_per_s: f64,
    /// 120 bytes there and 1700 back over loopback TCP, both ends on the two cores.
    pub(crate) loopback_us: f64,
}

pub(crate) fn probe() -> anyhow::Result<Roofline> {
    Ok(Roofline { syscall_ns: syscall(), read_gb_per_s: read(), loopback_us: loopback()? })
}

fn best(rounds: usize, mut measure: impl FnMut() -> f64) -> f64 {
    (0..rounds).map(|_| measure()).fold(f64::INFINITY, f64::min)
}

fn syscall() -> f64 {
    best(5, || {
        let begun = Instant::now();
        for _ in 0..200_000 {
            black_box(std::process::id());
        }
        begun.elapsed().as_nanos() as f64 / 200_000.0
    })
}

fn read() -> f64 {
    let memory = vec![1u64; 32 << 20];
    let seconds = best(3, || {
        let begun = Instant::now();
        black_box(black_box(&memory).iter().sum::<u64>());
        begun.elapsed().as_secs_f64()
    });
    (memory.len() * 8) as f64 / seconds / 1e9
}

fn loopback() -> anyhow::Result<f64> {
    const ROUNDS: usize = 20_000;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut there = TcpStream::connect(listener.local_addr()?)?;
    there.set_nodelay(true)?;
    let (mut here, _) = listener.accept()?;
    here.set_nodelay(true)?;
    let echo = std::thread::spawn(move || {
        let mut request = [0; 120];
        while here.read_exact(&mut request).is_ok() && here.write_all(&[7; 1700]).is_ok() {}
    });
    let mut answer = [0; 1700];
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        there.write_all(&[7; 120])?;
        there.read_exact(&mut answer)?;
    }
    let micros = begun.elapsed().as_secs_f64() * 1e6 / ROUNDS as f64;
    drop(there);
    // It ends with the connection.
    let _ended = echo.join();
    Ok(micros)
}
