//! HTTP/1.1 messages as they went over the wire.

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Reads messages and keeps every byte.
#[derive(Default)]
pub struct Reader {
    buffer: Vec<u8>,
    used: usize,
}

/// The stream ended in the middle of a message.
#[derive(Debug)]
pub struct Ended;

/// A request as an origin received it.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The connection that it came on, counted from 0.
    pub connection: usize,
    /// The request line.
    pub line: String,
    /// The fields in their order, names as they were written.
    pub fields: Vec<(String, String)>,
    /// The body without its chunking.
    pub body: Vec<u8>,
    /// The trailer section of a chunked body.
    pub trailers: Vec<(String, String)>,
}

/// A client's view of an answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The fields in their order, names as they were written.
    pub fields: Vec<(String, String)>,
    /// The body without its chunking, as much as came.
    pub body: Vec<u8>,
    /// The trailer section of a chunked body.
    pub trailers: Vec<(String, String)>,
    /// Whether the body came to its end.
    pub complete: bool,
}

impl Recorded {
    /// The request's target.
    pub fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    /// The only field of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        only(&self.fields, name)
    }

    /// All fields of that name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        all(&self.fields, name)
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }
}

impl Answer {
    /// The only field of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        only(&self.fields, name)
    }

    /// All fields of that name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        all(&self.fields, name)
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// The reason in the gateway's envelope; empty when it is no envelope.
    pub fn reason(&self) -> String {
        let envelope: Option<Value> = serde_json::from_slice(&self.body).ok();
        let reason = envelope.and_then(|it| Some(it["error"]["reason"].as_str()?.to_owned()));
        reason.unwrap_or_default()
    }

    /// Status and reason together, since a status alone may have many causes.
    pub fn refusal(&self) -> (u16, String) {
        (self.status, self.reason())
    }
}

fn all<'a>(fields: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    let named = |(known, _): &&(String, String)| known.eq_ignore_ascii_case(name);
    fields
        .iter()
        .filter(named)
        .map(|(_, value)| value.as_str())
        .collect()
}

#[track_caller]
fn only<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let values = all(fields, name);
    assert!(
        values.len() <= 1,
        "{name} stands there more than once: {values:?}"
    );
    values.first().copied()
}

impl Reader {
    /// Every byte so far.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// What was read and belongs to no message yet.
    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    /// Reads once; `false` at the end of the stream. A reset is an end.
    pub async fn more(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> bool {
        matches!(stream.read_buf(&mut self.buffer).await, Ok(1..))
    }

    /// Up to and with the next `\r\n\r\n`.
    pub async fn head(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Result<String, Ended> {
        self.until(stream, b"\r\n\r\n").await
    }

    async fn until(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        end: &[u8],
    ) -> Result<String, Ended> {
        loop {
            let rest = self.rest();
            if let Some(at) = rest.windows(end.len()).position(|window| window == end) {
                return Ok(self.text(at + end.len()));
            }
            if !self.more(stream).await {
                return Err(Ended);
            }
        }
    }

    fn text(&mut self, length: usize) -> String {
        String::from_utf8_lossy(&self.take(length)).into_owned()
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let taken = self.rest()[..length].to_vec();
        self.used += length;
        taken
    }

    /// So many bytes; what there is of them at the stream's end.
    pub async fn exactly(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        length: usize,
    ) -> (Vec<u8>, bool) {
        while self.rest().len() < length {
            if !self.more(stream).await {
                return (self.take(self.rest().len()), false);
            }
        }
        (self.take(length), true)
    }

    /// Everything up to the end of the stream.
    pub async fn drain(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
        while self.more(stream).await {}
        self.take(self.rest().len())
    }

    /// A chunked body: its data, its trailers, and whether it came to its end.
    pub async fn chunked(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> (Vec<u8>, Vec<(String, String)>, bool) {
        let mut body = Vec::new();
        while let Ok(line) = self.until(stream, b"\r\n").await {
            let digits = line.trim().split(';').next().unwrap_or_default().to_owned();
            let size = usize::from_str_radix(&digits, 16).expect("a chunk's size");
            if size == 0 {
                return match self.trailers(stream).await {
                    Ok(trailers) => (body, trailers, true),
                    Err(Ended) => (body, Vec::new(), false),
                };
            }
            let (data, whole) = self.exactly(stream, size).await;
            body.extend(data);
            if !whole || self.until(stream, b"\r\n").await.is_err() {
                break;
            }
        }
        (body, Vec::new(), false)
    }

    async fn trailers(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Result<Vec<(String, String)>, Ended> {
        let mut trailers = Vec::new();
        loop {
            let line = self.until(stream, b"\r\n").await?;
            match line.trim_end() {
                "" => return Ok(trailers),
                field => trailers.push(field_of(field)),
            }
        }
    }
}

/// The start line and the fields of a head.
pub fn split_head(head: &str) -> (String, Vec<(String, String)>) {
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default().to_owned();
    let fields = lines.filter(|line| !line.is_empty()).map(field_of);
    (line, fields.collect())
}

fn field_of(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    (name.to_owned(), value.trim().to_owned())
}

/// How a message's body is framed.
pub enum Framing {
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// `Content-Length`.
    Length(usize),
    /// Neither.
    Neither,
}

impl Framing {
    /// What the fields say.
    pub fn of(fields: &[(String, String)]) -> Self {
        if all(fields, "transfer-encoding")
            .iter()
            .any(|coding| coding.ends_with("chunked"))
        {
            return Self::Chunked;
        }
        match only(fields, "content-length") {
            Some(length) => Self::Length(length.parse().expect("a length")),
            None => Self::Neither,
        }
    }
}
