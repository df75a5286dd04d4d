//! Requests over one keep-alive connection, without a client that would cost more than the server.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) async fn post(&mut self, path: &str, body: &str) -> Answer {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.ask(&request).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n")).await
    }

    async fn ask(&mut self, request: &str) -> Answer {
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.buffer.clear();
        let head = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(self.stream.read_buf(&mut self.buffer).await.unwrap() > 0, "the server closed a connection");
        };
        let text = std::str::from_utf8(&self.buffer[..head]).unwrap();
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        let header = |name: &str| {
            let of = |line: &str| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            };
            text.lines().find_map(of)
        };
        let length: usize = header("content-length").expect("an answer has a length").parse().unwrap();
        while self.buffer.len() < head + length {
            assert!(self.stream.read_buf(&mut self.buffer).await.unwrap() > 0, "the server closed a connection");
        }
        Answer { status, body: self.buffer[head..head + length].to_vec() }
    }
}
