//! An origin that follows a script and records every byte that reached it.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use super::message::{Ended, Framing, Reader, Recorded, split_head};

/// A scripted origin. It stops listening, and drops its connections, when it is dropped.
pub struct Origin {
    address: SocketAddr,
    record: Arc<Mutex<Record>>,
    accept: AbortHandle,
}

#[derive(Default)]
struct Record {
    /// All bytes by connection.
    bytes: Vec<Vec<u8>>,
    /// Whole requests in the order of their ends.
    requests: Vec<Recorded>,
}

impl Origin {
    /// Runs a script for each connection.
    pub async fn start<F, Fut>(script: F) -> Self
    where
        F: Fn(Peer) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let record = Arc::<Mutex<Record>>::default();
        let kept = Arc::clone(&record);
        let accept = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(script(Peer::new(stream, &kept)));
            }
        });
        Self {
            address,
            record,
            accept: accept.abort_handle(),
        }
    }

    /// Answers every request with the same bytes and keeps the connection.
    pub async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::start(move |mut peer| {
            let answer = answer.clone();
            async move {
                while peer.request().await.is_some() {
                    peer.write(&answer).await;
                }
            }
        })
        .await
    }

    /// Answers the first request of each connection with these bytes, then closes.
    pub async fn answering_once(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::start(move |mut peer| {
            let answer = answer.clone();
            async move {
                peer.request().await;
                peer.write(&answer).await;
            }
        })
        .await
    }

    /// Answers 200 with the body `ok`.
    pub async fn ok() -> Self {
        Self::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await
    }

    /// Never answers, and tells when a request came and when its connection was closed.
    pub async fn silent() -> (Self, mpsc::UnboundedReceiver<&'static str>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let origin = Self::start(move |mut peer| {
            let sender = sender.clone();
            async move {
                peer.request().await;
                let _ = sender.send("request");
                peer.closed().await;
                let _ = sender.send("closed");
            }
        })
        .await;
        (origin, receiver)
    }

    /// Its URL for `upstream` and `servers`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.record().bytes.len()
    }

    /// Whole requests so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.record().requests.clone()
    }

    /// The only request.
    #[track_caller]
    pub fn request(&self) -> Recorded {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:#?}");
        requests.remove(0)
    }

    /// Every byte that came on a connection, counted from 0.
    pub fn bytes(&self, connection: usize) -> Vec<u8> {
        self.record().bytes[connection].clone()
    }

    /// Every byte that came on any connection, as text.
    pub fn received(&self) -> String {
        String::from_utf8_lossy(&self.record().bytes.concat()).into_owned()
    }

    fn record(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().expect("no script panicked")
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

/// One connection to an origin, in the hands of its script. It closes when it is dropped.
pub struct Peer {
    /// Which connection it is, counted from 0.
    pub index: usize,
    stream: TcpStream,
    reader: Reader,
    record: Arc<Mutex<Record>>,
}

impl Peer {
    fn new(stream: TcpStream, record: &Arc<Mutex<Record>>) -> Self {
        let _ = stream.set_nodelay(true);
        let mut locked = record.lock().expect("no script panicked");
        locked.bytes.push(Vec::new());
        Self {
            index: locked.bytes.len() - 1,
            stream,
            reader: Reader::default(),
            record: Arc::clone(record),
        }
    }

    /// The next head, or `None` at the end of the connection.
    pub async fn head(&mut self) -> Option<String> {
        let head = self.reader.head(&mut self.stream).await;
        self.keep();
        head.ok()
    }

    /// The next request with its body, or `None` when it does not come whole.
    pub async fn request(&mut self) -> Option<Recorded> {
        let request = self.read_request().await;
        self.keep();
        let request = request.ok()?;
        self.locked().requests.push(request.clone());
        Some(request)
    }

    async fn read_request(&mut self) -> Result<Recorded, Ended> {
        let head = self.reader.head(&mut self.stream).await?;
        self.keep();
        let (line, fields) = split_head(&head);
        let (body, trailers, complete) = match Framing::of(&fields) {
            Framing::Chunked => self.reader.chunked(&mut self.stream).await,
            Framing::Length(length) => {
                let (body, whole) = self.reader.exactly(&mut self.stream, length).await;
                (body, Vec::new(), whole)
            }
            Framing::Neither => (Vec::new(), Vec::new(), true),
        };
        if !complete {
            return Err(Ended);
        }
        Ok(Recorded {
            connection: self.index,
            line,
            fields,
            body,
            trailers,
        })
    }

    /// So many bytes behind what was read; fewer at the end of the connection.
    pub async fn read(&mut self, length: usize) -> Vec<u8> {
        let (bytes, _) = self.reader.exactly(&mut self.stream, length).await;
        self.keep();
        bytes
    }

    /// Reads until the other side closes or resets.
    pub async fn closed(&mut self) -> Vec<u8> {
        let rest = self.reader.drain(&mut self.stream).await;
        self.keep();
        rest
    }

    /// Writes; a connection that is gone is no failure of the script.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Closes with RST.
    pub fn reset(self) {
        let _ = self.stream.set_zero_linger();
    }

    fn keep(&self) {
        self.locked().bytes[self.index] = self.reader.bytes().to_vec();
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().expect("no script panicked")
    }
}
