//! A client that sends exactly the bytes it is told.

use std::net::SocketAddr;

use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    message::{Answer, Ended, Framing, Reader, split_head},
    within,
};

/// One connection.
pub struct Raw {
    stream: TcpStream,
    reader: Reader,
}

impl Raw {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).expect("a TCP socket");
        Self {
            stream,
            reader: Reader::default(),
        }
    }

    /// Sends on a new connection and reads one answer.
    #[track_caller]
    pub fn ask(
        address: SocketAddr,
        bytes: impl AsRef<[u8]> + 'static,
    ) -> impl Future<Output = Answer> {
        let answer = async move {
            let mut client = Self::connect(address).await;
            client.send(bytes).await;
            client.read_answer("GET").await
        };
        let answer = within(answer);
        async move { answer.await.expect("an answer") }
    }

    /// Sends on a new connection and reads the answer, behind which the gateway must close.
    #[track_caller]
    pub fn ask_and_close(
        address: SocketAddr,
        bytes: impl AsRef<[u8]> + 'static,
    ) -> impl Future<Output = Answer> {
        within(async move {
            let mut client = Self::connect(address).await;
            client.send(bytes).await;
            let answer = client.read_answer("GET").await.expect("an answer");
            let rest = client.reader.drain(&mut client.stream).await;
            assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
            answer
        })
    }

    /// Sends; a gateway that has closed is no failure here.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// The next answer. One that broke off has `complete` false.
    #[track_caller]
    pub fn answer(&mut self) -> impl Future<Output = Answer> {
        self.answer_to("GET")
    }

    /// The next answer, to a request with this method.
    #[track_caller]
    pub fn answer_to(&mut self, method: &'static str) -> impl Future<Output = Answer> {
        let answer = within(self.read_answer(method));
        async move { answer.await.expect("an answer") }
    }

    /// The next answer, or `None` when the connection ends before a whole head.
    pub async fn answer_or_end(&mut self) -> Option<Answer> {
        within(self.read_answer("GET")).await.ok()
    }

    /// The next head, interim ones too.
    #[track_caller]
    pub fn head(&mut self) -> impl Future<Output = String> {
        let head = within(self.reader.head(&mut self.stream));
        async move { head.await.expect("a head") }
    }

    /// So many bytes behind what was read.
    #[track_caller]
    pub fn read(&mut self, length: usize) -> impl Future<Output = Vec<u8>> {
        let bytes = within(self.reader.exactly(&mut self.stream, length));
        async move {
            let (bytes, whole) = bytes.await;
            assert!(whole, "the connection ended behind {bytes:?}");
            bytes
        }
    }

    /// What comes until the gateway closes.
    #[track_caller]
    pub fn rest(&mut self) -> impl Future<Output = Vec<u8>> {
        within(self.reader.drain(&mut self.stream))
    }

    /// Ends the sending side.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Closes with RST.
    pub fn reset(self) {
        let _ = self.stream.set_zero_linger();
    }

    /// The socket itself.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    async fn read_answer(&mut self, method: &str) -> Result<Answer, Ended> {
        let head = self.reader.head(&mut self.stream).await?;
        let (line, fields) = split_head(&head);
        let status = line.split(' ').nth(1).and_then(|text| text.parse().ok());
        let status: u16 = status.expect("a status line");
        let (body, trailers, complete) = match Framing::of(&fields) {
            _ if method == "HEAD" || status == 204 || status == 304 || status < 200 => {
                (Vec::new(), Vec::new(), true)
            }
            Framing::Chunked => self.reader.chunked(&mut self.stream).await,
            Framing::Length(length) => {
                let (body, whole) = self.reader.exactly(&mut self.stream, length).await;
                (body, Vec::new(), whole)
            }
            Framing::Neither => (self.reader.drain(&mut self.stream).await, Vec::new(), true),
        };
        Ok(Answer {
            status,
            fields,
            body,
            trailers,
            complete,
        })
    }
}
