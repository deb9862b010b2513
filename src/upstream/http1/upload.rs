//! A request on its way out: its head, and its body as it comes.

use std::{
    future::poll_fn,
    io::{self, IoSlice, Write as _},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body as _, Frame};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    time::Instant,
};

use super::encode::{Framing, line};
use crate::exchange::{Body, BodyError, LazyTimer};

/// What is still to be sent. Small frames are gathered with the head, large ones are never copied.
pub(super) struct Upload {
    out: Vec<u8>,
    sent: usize,
    payload: Bytes,
    /// What stands behind the payload.
    tail: &'static [u8],
    body: Body,
    framing: Framing,
    /// Whether all of the body was taken.
    over: bool,
    /// Whether the server takes nothing at the moment.
    pub(super) blocked: bool,
    /// Whether any byte was written.
    pub(super) began: bool,
}

/// Why a request can't be sent to its end.
#[derive(Debug)]
pub(in super::super) enum UploadError {
    /// The client's body broke off, or the gateway broke it off.
    Body(BodyError),
    /// It is longer or shorter than was told.
    Length,
    /// The server takes no more.
    Write(io::Error),
}

impl Upload {
    pub(super) fn new(out: Vec<u8>, framing: Framing, body: Body) -> Self {
        Self {
            out,
            sent: 0,
            payload: Bytes::new(),
            tail: b"",
            over: framing == Framing::Empty,
            body,
            framing,
            blocked: false,
            began: false,
        }
    }

    /// Whether the server has been sent all that it was told of.
    pub(super) fn is_complete(&self) -> bool {
        (self.over || self.framing == Framing::Length(0)) && self.is_flushed()
    }

    fn is_flushed(&self) -> bool {
        self.sent == self.out.len() && self.payload.is_empty() && self.tail.is_empty()
    }

    /// The body, which nobody has read from, and the output's room.
    pub(super) fn into_parts(mut self) -> (Body, Vec<u8>) {
        self.out.clear();
        (self.body, self.out)
    }

    /// Sends what there is; ready when all of it was sent.
    pub(super) fn poll<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), UploadError>> {
        loop {
            self.gather(cx)?;
            if self.is_flushed() {
                return if self.over {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                };
            }
            self.blocked = true;
            ready!(self.poll_write(stream, cx)).map_err(UploadError::Write)?;
            self.blocked = false;
        }
    }

    /// Takes frames as long as they are there and small.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<(), UploadError> {
        while !self.over && self.payload.is_empty() && self.out.len() - self.sent < GATHERED {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => self.encode(frame)?,
                Poll::Ready(Some(Err(error))) => return Err(UploadError::Body(error)),
                Poll::Ready(None) => self.finish()?,
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    fn encode(&mut self, frame: Frame<Bytes>) -> Result<(), UploadError> {
        let frame = match frame.into_data() {
            Ok(data) => return self.encode_data(data),
            Err(frame) => frame,
        };
        if let Ok(trailers) = frame.into_trailers() {
            self.encode_trailers(&trailers)?;
        }
        Ok(())
    }

    /// An empty chunk would end the body (RFC 9112 7.1).
    fn encode_data(&mut self, data: Bytes) -> Result<(), UploadError> {
        if data.is_empty() {
            return Ok(());
        }
        match &mut self.framing {
            Framing::Empty => return Err(UploadError::Length),
            Framing::Length(left) => {
                let length = data.len() as u64;
                *left = left.checked_sub(length).ok_or(UploadError::Length)?;
            }
            Framing::Chunked(_) => {
                // Writing to memory can't fail.
                let _ = write!(self.out, "{:x}\r\n", data.len());
            }
        }
        let behind: &[u8] = match self.framing {
            Framing::Chunked(_) => b"\r\n",
            _ => b"",
        };
        if data.len() <= GATHERED {
            self.out.extend_from_slice(&data);
            self.out.extend_from_slice(behind);
        } else {
            self.payload = data;
            self.tail = behind;
        }
        // The end of a body with a length needs no further look at it.
        self.over = self.framing == Framing::Length(0) && self.body.is_end_stream();
        Ok(())
    }

    /// RFC 9112 7.1.2: only chunks can have trailers behind them.
    fn encode_trailers(&mut self, trailers: &HeaderMap) -> Result<(), UploadError> {
        let Framing::Chunked(named) = &self.framing else {
            return self.finish();
        };
        self.out.extend_from_slice(b"0\r\n");
        for (name, value) in trailers {
            if named.contains(name) {
                line(&mut self.out, name, value.as_bytes());
            }
        }
        self.out.extend_from_slice(b"\r\n");
        self.over = true;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), UploadError> {
        match self.framing {
            Framing::Length(1..) => return Err(UploadError::Length),
            Framing::Chunked(_) => self.out.extend_from_slice(b"0\r\n\r\n"),
            Framing::Length(0) | Framing::Empty => {}
        }
        self.over = true;
        Ok(())
    }

    fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let head = &self.out[self.sent..];
        let stream = Pin::new(stream);
        let written = if self.payload.is_empty() && self.tail.is_empty() {
            ready!(stream.poll_write(cx, head))?
        } else {
            let slices = [head, &self.payload, self.tail].map(IoSlice::new);
            ready!(stream.poll_write_vectored(cx, &slices))?
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.began = true;
        self.advance(written);
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        let of_head = written.min(self.out.len() - self.sent);
        self.sent += of_head;
        let of_payload = (written - of_head).min(self.payload.len());
        self.payload.advance(of_payload);
        self.tail = &self.tail[written - of_head - of_payload..];
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        }
    }
}

/// Sends the rest of a request whose answer has come already. It ends with the client's body, with
/// the connection, or when the server has taken nothing for too long.
pub(super) async fn send_rest(
    mut upload: Upload,
    mut stream: impl AsyncWrite + Unpin,
    stall: Option<Duration>,
) {
    let mut timer = LazyTimer::default();
    let whole = poll_fn(|cx| {
        upload.began = false;
        if let Poll::Ready(sent) = upload.poll(&mut stream, cx) {
            return Poll::Ready(sent.is_ok());
        }
        if upload.began || !upload.blocked {
            timer.disarm();
        }
        if let (true, false, Some(stall)) = (upload.blocked, timer.is_armed(), stall) {
            timer.arm(Instant::now(), stall);
        }
        timer.poll_expired(cx).map(|()| false)
    })
    .await;
    if !whole {
        // The server sees that the request has broken off, while its answer may still be read.
        let _ = stream.shutdown().await;
    }
}

/// Frames up to this size are copied behind the head, into one write.
const GATHERED: usize = 4 << 10;
