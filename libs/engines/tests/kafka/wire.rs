//! As much of Kafka's protocol as shows that a broker works, and no client.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

pub(crate) const NONE: i16 = 0;
pub(crate) const TOPIC_ALREADY_EXISTS: i16 = 36;
pub(crate) const SASL_AUTHENTICATION_FAILED: i16 = 58;

const METADATA: (i16, i16) = (3, 4);
const CREATE_TOPICS: (i16, i16) = (19, 2);
const SASL_HANDSHAKE: (i16, i16) = (17, 1);
const SASL_AUTHENTICATE: (i16, i16) = (36, 0);

pub(crate) struct Client(TcpStream);

impl Client {
    pub(crate) fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self(stream))
    }

    /// How many brokers the cluster has, as this one knows.
    pub(crate) fn brokers(&mut self) -> io::Result<i32> {
        let no_topics = [0, 0, 0, 0];
        let answer = self.call(METADATA, &[&no_topics[..], &[0]].concat())?;
        // After the time for which the client is throttled.
        Ok(i32::from_be_bytes(bytes(&answer, 4)?))
    }

    /// The error code.
    pub(crate) fn create_topic(&mut self, name: &str, replicas: i16) -> io::Result<i16> {
        let topic = [&string(name)[..], &1_i32.to_be_bytes(), &replicas.to_be_bytes(), &[0; 4], &[0; 4]].concat();
        let body = [&1_i32.to_be_bytes()[..], &topic, &30_000_i32.to_be_bytes(), &[0]].concat();
        let answer = self.call(CREATE_TOPICS, &body)?;
        // After the throttle time, the number of topics and the topic's name.
        Ok(i16::from_be_bytes(bytes(&answer, 8 + string(name).len())?))
    }

    /// The error code.
    pub(crate) fn log_in(&mut self, user: &str, password: &str) -> io::Result<i16> {
        self.call(SASL_HANDSHAKE, &string("PLAIN"))?;
        let secret = format!("\0{user}\0{password}");
        let answer = self.call(SASL_AUTHENTICATE, &[&length(&secret).to_be_bytes()[..], secret.as_bytes()].concat())?;
        Ok(i16::from_be_bytes(bytes(&answer, 0)?))
    }

    fn call(&mut self, (api, version): (i16, i16), body: &[u8]) -> io::Result<Vec<u8>> {
        let (correlation, no_client_id) = ([0; 4], (-1_i16).to_be_bytes());
        let request = [&api.to_be_bytes()[..], &version.to_be_bytes(), &correlation, &no_client_id, body].concat();
        self.0.write_all(&[&length(&request).to_be_bytes()[..], &request].concat())?;
        let mut size = [0; 4];
        self.0.read_exact(&mut size)?;
        let mut answer = vec![0; u32::from_be_bytes(size) as usize];
        self.0.read_exact(&mut answer)?;
        Ok(answer.split_off(correlation.len()))
    }
}

fn bytes<const N: usize>(answer: &[u8], at: usize) -> io::Result<[u8; N]> {
    let found = answer.get(at..at + N).and_then(|bytes| bytes.try_into().ok());
    found.ok_or_else(|| io::Error::other("the answer is too short"))
}

fn length(bytes: impl AsRef<[u8]>) -> i32 {
    i32::try_from(bytes.as_ref().len()).expect("the requests of tests are short")
}

fn string(text: &str) -> Vec<u8> {
    let length = i16::try_from(text.len()).expect("the names of tests are short");
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}
