//! HTTP/2 frame by frame, for what no library would send.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Origin, Peer, within};

/// A connection on which every frame is written by hand.
pub struct FrameClient {
    stream: TcpStream,
}

/// One frame (RFC 9113 section 4.1).
#[derive(Clone, Debug)]
pub struct Frame {
    /// The type.
    pub kind: u8,
    /// The flags.
    pub flags: u8,
    /// The stream.
    pub stream: u32,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Whether it resets a stream or ends the connection.
    pub fn is_refusal(&self) -> bool {
        matches!(self.kind, RST_STREAM | GOAWAY)
    }

    /// Whether it is an answer's head, or its trailers.
    pub fn is_headers(&self) -> bool {
        self.kind == HEADERS
    }

    /// Whether it is the indexed field `:status: 400` (RFC 7541 appendix A) that an answer begins
    /// with.
    pub fn is_bad_request(&self) -> bool {
        self.kind == HEADERS && self.payload.first() == Some(&0x8c)
    }

    /// The value of one of the SETTINGS that it holds.
    fn setting(&self, id: u16) -> Option<u32> {
        let entries = self.payload.chunks_exact(6);
        let mut values = entries.filter(|entry| entry[..2] == id.to_be_bytes());
        values.next().map(|entry| number(&entry[2..]))
    }
}

/// Four bytes as a number.
fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("four bytes"))
}

impl FrameClient {
    /// Connects and sends the preface.
    pub async fn connect(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).expect("a TCP socket");
        stream.write_all(PREFACE).await.expect("it is open");
        let mut client = Self { stream };
        client.send(SETTINGS, 0, 0, &[]).await;
        client
    }

    /// Sends one frame.
    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.send_raw(&frame(kind, flags, stream, payload)).await;
    }

    /// Sends frames that are ready.
    pub async fn send_raw(&mut self, frames: &[u8]) {
        // A gateway that has closed is seen when reading.
        let _ = self.stream.write_all(frames).await;
    }

    /// Sends a request without a body on stream 1, its fields in this order and spelling.
    pub async fn request(&mut self, fields: &[(&str, &[u8])]) {
        let block = encode(fields);
        self.send(HEADERS, END_HEADERS | END_STREAM, 1, &block)
            .await;
    }

    /// Begins a request with a body on stream 1.
    pub async fn upload(&mut self, fields: &[(&str, &[u8])]) {
        self.send(HEADERS, END_HEADERS, 1, &encode(fields)).await;
    }

    /// Sends a part of the body on stream 1.
    pub async fn data(&mut self, bytes: &[u8]) {
        self.send(DATA, 0, 1, bytes).await;
    }

    /// Resets stream 1.
    pub async fn reset(&mut self, reason: u32) {
        self.send(RST_STREAM, 0, 1, &reason.to_be_bytes()).await;
    }

    /// The first frame that tells what became of the request.
    #[track_caller]
    pub fn outcome(&mut self) -> impl Future<Output = Frame> {
        within(async move {
            loop {
                let frame = self.frame().await.expect("an outcome");
                if frame.is_refusal() || frame.is_headers() {
                    return frame;
                }
            }
        })
    }

    /// The windows that the gateway opens by itself: that of each stream (RFC 9113 section 6.5.2)
    /// and that of the connection, which begins at 65,535 and is opened further (section 6.9.2).
    #[track_caller]
    pub fn windows(&mut self) -> impl Future<Output = (u32, u32)> {
        within(async move {
            let (mut stream, mut connection) = (None, None);
            loop {
                if let (Some(stream), Some(connection)) = (stream, connection) {
                    return (stream, connection);
                }
                let frame = self.frame().await.expect("both windows");
                match frame.kind {
                    SETTINGS => stream = stream.or(frame.setting(INITIAL_WINDOW_SIZE)),
                    WINDOW_UPDATE if frame.stream == 0 => {
                        connection = Some(65_535 + number(&frame.payload));
                    }
                    _ => {}
                }
            }
        })
    }

    /// The next frame, or `None` at the end of the connection.
    pub async fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream,
            payload,
        })
    }
}

/// One frame's bytes.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A server that answers every request with these fields, in this order and spelling, and this body.
pub async fn answering_frames(fields: &[(&str, &[u8])], body: &[u8]) -> Origin {
    let (block, body) = (encode(fields), body.to_vec());
    Origin::start(move |mut peer: Peer| {
        let (block, body) = (block.clone(), body.clone());
        async move {
            peer.read(PREFACE.len()).await;
            peer.write(frame(SETTINGS, 0, 0, &[])).await;
            while let Some(stream) = requested(&mut peer).await {
                peer.write(frame(HEADERS, END_HEADERS, stream, &block))
                    .await;
                peer.write(frame(DATA, END_STREAM, stream, &body)).await;
            }
        }
    })
    .await
}

/// The stream of the next request, or `None` at the end of the connection.
async fn requested(peer: &mut Peer) -> Option<u32> {
    loop {
        let head: [u8; 9] = peer.read(9).await.try_into().ok()?;
        let length = number(&[0, head[0], head[1], head[2]]);
        peer.read(length as usize).await;
        if head[3] == HEADERS {
            return Some(number(&head[5..]));
        }
    }
}

/// Literal fields without indexing and without Huffman coding (RFC 7541 section 6.2.2).
pub fn encode(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_bytes(), value] {
            assert!(text.len() < 127, "longer strings need another encoding");
            block.push(text.len() as u8);
            block.extend(text);
        }
    }
    block
}

/// RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const INITIAL_WINDOW_SIZE: u16 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
