//! A small HTTP server for tests, and a receiver that keeps what a judge says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{HttpOptions, Judge, JudgeError, Judged, Judgement};

/// What came in.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) at: Instant,
    /// `POST /path?query HTTP/1.1`.
    pub(crate) line: String,
    /// By name in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Value,
}

/// What goes out.
pub(crate) enum Reply {
    /// 200 with JSON.
    Json(Value),
    /// A status, more header lines, and a text.
    Status(u16, &'static str, String),
    /// Any bytes, then the end of the connection.
    Raw(Vec<u8>),
    /// The other one, later.
    After(Duration, Box<Reply>),
}

/// Answers on a port of this machine until the tests end.
pub(crate) struct Server {
    address: String,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Server {
    /// `reply` gets the number of the request, from 0 on, and the request.
    pub(crate) fn start(reply: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let received = Arc::new(Mutex::new(Vec::new()));
        let (log, reply) = (Arc::clone(&received), Arc::new(reply));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, reply) = (Arc::clone(&log), Arc::clone(&reply));
                thread::spawn(move || {
                    let request = read(&stream)?;
                    let number = {
                        let mut log = log.lock().unwrap();
                        log.push(request.clone());
                        log.len() - 1
                    };
                    write(stream, reply(number, &request));
                    Some(())
                });
            }
        });
        Self { address, received }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

/// An address where nobody answers.
pub(crate) fn nobody(path: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}{path}", listener.local_addr().unwrap())
}

/// Limits short enough for tests.
pub(crate) fn impatient() -> HttpOptions {
    HttpOptions {
        first_wait: Duration::from_millis(2),
        longest_wait: Duration::from_secs(2),
        attempts: 4,
        most_failures: 3,
        ..HttpOptions::default()
    }
}

fn read(stream: &TcpStream) -> Option<Received> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let at = Instant::now();
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(':') else {
            break;
        };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    Some(Received {
        at,
        line: line.trim().to_owned(),
        headers,
        body: serde_json::from_slice(&body).unwrap(),
    })
}

fn write(mut stream: TcpStream, reply: Reply) {
    let (status, headers, text) = match reply {
        Reply::Json(value) => (200, "", value.to_string()),
        Reply::Status(status, headers, text) => (status, headers, text),
        Reply::Raw(bytes) => {
            let _ = stream.write_all(&bytes);
            return;
        }
        Reply::After(wait, reply) => {
            thread::sleep(wait);
            return write(stream, *reply);
        }
    };
    let length = text.len();
    // The client may be gone by now.
    let _ = write!(
        stream,
        "HTTP/1.1 {status} Status\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{text}"
    );
}

/// What a judge said, in the order of the items, and how it ended.
#[derive(Debug)]
pub(crate) struct Collected {
    pub(crate) judgements: Vec<(usize, Judgement)>,
    pub(crate) result: Result<(), JudgeError>,
}

/// Judges `items`; no item may be judged twice.
pub(crate) fn collect(judge: &mut dyn Judge, items: &[Judged<'_>]) -> Collected {
    let mut judgements = BTreeMap::new();
    let result = judge.judge(items, &AtomicBool::new(false), &mut |index, judgement| {
        assert!(index < items.len());
        assert!(judgements.insert(index, judgement).is_none());
        Ok(())
    });
    Collected {
        judgements: judgements.into_iter().collect(),
        result,
    }
}
