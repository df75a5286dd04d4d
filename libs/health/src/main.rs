//! `attune-health http://127.0.0.1:9101/readyz`: ends with 0 when the answer is 2xx, else with 1 and a line that says why.
//!
//! For Compose, in images that have no shell. It uses the standard library alone, so that a static build runs in any image.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(2);
const USAGE: &str = "usage: attune-health http://ADDRESS:PORT/PATH";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), None) = (arguments.next(), arguments.next()) else {
        eprintln!("{USAGE}");
        return ExitCode::from(64);
    };
    match ask(&url) {
        Ok(status) if (200..300).contains(&status) => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("{url}: {status}");
            ExitCode::FAILURE
        }
        Err(reason) => {
            eprintln!("{url}: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// The status of the answer. Addresses only: what is asked is on this machine, and a static program resolves no names.
fn ask(url: &str) -> Result<u16, String> {
    let rest = url.strip_prefix("http://").ok_or(USAGE)?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address: SocketAddr = host.parse().map_err(|_| USAGE)?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(|error| error.to_string())?;
    let request = format!("GET /{path} HTTP/1.0\r\nhost: {host}\r\n\r\n");
    let asked = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
        .and_then(|()| stream.write_all(request.as_bytes()));
    asked.map_err(|error| error.to_string())?;
    let mut line = [0; 12];
    stream.read_exact(&mut line).map_err(|error| error.to_string())?;
    let text = std::str::from_utf8(&line).ok().and_then(|line| line.strip_prefix("HTTP/1."));
    text.and_then(|text| text.get(2..)?.parse().ok()).ok_or_else(|| "the answer is not HTTP".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn answered(answer: &'static str) -> Result<u16, String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/readyz", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut some = [0; 256];
                let read = stream.read(&mut some).unwrap();
                assert!(read > 0, "the request ends with an empty line");
                request.extend_from_slice(&some[..read]);
            }
            assert!(request.starts_with(b"GET /readyz HTTP/1.0\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let status = ask(&url);
        server.join().unwrap();
        status
    }

    #[test]
    fn the_status_is_read() {
        assert_eq!(answered("HTTP/1.1 200 OK\r\n\r\n"), Ok(200));
        assert_eq!(answered("HTTP/1.0 503 Service Unavailable\r\n\r\n"), Ok(503));
        assert!(answered("SSH-2.0-OpenSSH\r\n").is_err());
        assert!(answered("HTTP").is_err());
    }

    #[test]
    fn what_cannot_be_asked_is_an_error() {
        for url in ["", "127.0.0.1:1", "https://127.0.0.1:1/", "http://localhost:1/", "http://127.0.0.1:1/"] {
            assert!(ask(url).is_err(), "{url}");
        }
    }
}
