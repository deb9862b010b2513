//! One request and its answer's head, side by side on one connection.

use std::{
    io,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Buf;
use http::{Method, StatusCode};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Answer, Connection, Head, Stream, Switched,
    head::{MOST_BYTES, Malformed},
    rest::send_rest,
};
use crate::exchange::{
    Body, BodyError,
    http1::{Decoder, Framing, Outgoing, OutgoingError, has_blank_line},
};

/// A request that is being sent, until its answer's head is there.
pub(in super::super) struct Exchange {
    connection: Box<Connection>,
    upload: Outgoing,
    /// The server takes no more; its answer may have come before that.
    unwritten: Option<io::Error>,
    method: Method,
    /// Bytes of interim answers so far.
    interim: usize,
    /// How much of an unfinished head has been looked at.
    scanned: usize,
    /// Whether the connection may serve another request, as far as interim answers say.
    persistent: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub(in super::super) enum SendError {
    /// The client's body broke off.
    Body(BodyError),
    /// The client's body is not as long as was told.
    Length,
    /// The connection ended. Whether anything was written, and whether an answer had begun.
    Closed {
        error: io::Error,
        written: bool,
        began: bool,
    },
    /// What came is no answer.
    Malformed(Malformed),
}

impl Exchange {
    /// Sends what stands in the connection's output, and the body behind it.
    pub(in super::super) fn new(
        mut connection: Box<Connection>,
        method: Method,
        framing: Framing,
        body: Body,
    ) -> Self {
        let out = std::mem::take(&mut connection.output);
        Self::again(connection, method, Outgoing::new(out, framing, body))
    }

    /// Sends on another connection what [`into_unsent`](Self::into_unsent) has handed back.
    pub(in super::super) fn again(
        connection: Box<Connection>,
        method: Method,
        upload: Outgoing,
    ) -> Self {
        Self {
            connection,
            upload,
            unwritten: None,
            method,
            interim: 0,
            scanned: 0,
            persistent: true,
        }
    }

    /// The request, if nothing of it was written: with what has been taken of its body already.
    pub(in super::super) fn into_unsent(self) -> Option<Outgoing> {
        (!self.upload.began).then_some(self.upload)
    }

    /// Sends, and waits for the answer's head. `interim` is shown those before it, but for the 100:
    /// whether the client may send its body is between it and us.
    pub(in super::super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        interim: &impl Fn(Head),
    ) -> Poll<Result<Head, SendError>> {
        self.poll_upload(cx)?;
        if !self.upload.began {
            // Whatever has come can't be the answer to a request that is still here.
            return match self.unwritten.take() {
                Some(error) => Poll::Ready(Err(self.closed(Some(error)))),
                None => Poll::Pending,
            };
        }
        loop {
            if let Some(head) = self.take_head(interim)? {
                return Poll::Ready(Ok(head));
            }
            let connection = &mut *self.connection;
            let read = ready!(connection.input.poll_read(&mut connection.stream, cx));
            match read {
                Ok(1..) => {}
                Ok(0) => return Poll::Ready(Err(self.closed(None))),
                Err(error) => return Poll::Ready(Err(self.closed(Some(error)))),
            }
        }
    }

    /// A server that takes no more may have said why.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), SendError> {
        if self.unwritten.is_some() {
            return Ok(());
        }
        match self.upload.poll(&mut self.connection.stream, cx) {
            Poll::Pending | Poll::Ready(Ok(())) => Ok(()),
            Poll::Ready(Err(OutgoingError::Body(error))) => Err(SendError::Body(error)),
            Poll::Ready(Err(OutgoingError::Length)) => Err(SendError::Length),
            Poll::Ready(Err(OutgoingError::Write(error))) => {
                self.unwritten = Some(error);
                Ok(())
            }
        }
    }

    fn closed(&mut self, error: Option<io::Error>) -> SendError {
        let error = error.or_else(|| self.unwritten.take());
        SendError::Closed {
            error: error.unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()),
            written: self.upload.began,
            began: self.upload.began && (self.interim > 0 || !self.connection.input.is_empty()),
        }
    }

    /// The final head, if it is there. Interim answers (RFC 9110 15.2) are taken in up to a bound:
    /// nothing else would hold a server back that sends them without end.
    fn take_head(&mut self, interim: &impl Fn(Head)) -> Result<Option<Head>, SendError> {
        loop {
            let buffer = &mut self.connection.input.buffer;
            // Empty lines in front of a head mean nothing (RFC 9112 2.2), but are no way to keep us busy.
            let breaks = leading_breaks(buffer);
            buffer.advance(breaks);
            self.count_interim(breaks)?;
            let buffer = &mut self.connection.input.buffer;
            if buffer.is_empty() || (self.scanned > 0 && !has_blank_line(buffer, self.scanned)) {
                return self.unfinished();
            }
            let before = buffer.len();
            let Some(head) = Head::take(buffer).map_err(SendError::Malformed)? else {
                return self.unfinished();
            };
            self.scanned = 0;
            if !head.status.is_informational() || head.status.as_u16() == 101 {
                return Ok(Some(head));
            }
            // It has no body, but what tells of one in two ways is no more to be trusted than a final head.
            head.seen.check().map_err(SendError::Malformed)?;
            self.persistent &= head.persistent;
            self.count_interim(before - self.connection.input.buffer.len())?;
            if head.status != StatusCode::CONTINUE {
                interim(head);
            }
        }
    }

    fn count_interim(&mut self, bytes: usize) -> Result<(), SendError> {
        self.interim += bytes;
        match self.interim > MOST_INTERIM {
            true => Err(SendError::Malformed("interim answers without end")),
            false => Ok(()),
        }
    }

    fn unfinished(&mut self) -> Result<Option<Head>, SendError> {
        self.scanned = self.connection.input.buffer.len();
        match self.scanned > MOST_BYTES {
            true => Err(SendError::Malformed("the head is too large")),
            false => Ok(None),
        }
    }

    /// Goes over to the answer's body. What is left of the request's is sent by a task of its own,
    /// which gives up when the server takes nothing for `stall`, or for a minute.
    pub(in super::super) fn answer(
        self,
        head: &Head,
        stall: Option<Duration>,
    ) -> Result<Answer, Malformed> {
        let decoder = head.decoder(&self.method)?;
        let persistent = self.persistent && head.persistent;
        Ok(self.into_answer(decoder, persistent, stall))
    }

    fn into_answer(self, decoder: Decoder, persistent: bool, stall: Option<Duration>) -> Answer {
        let Self {
            mut connection,
            upload,
            unwritten,
            ..
        } = self;
        if upload.is_complete() {
            connection.output = upload.into_output();
            let reusable = persistent && !decoder.ends_with_connection();
            return Answer::new(connection, decoder, reusable, None);
        }
        if unwritten.is_some() {
            return Answer::new(connection, decoder, false, None);
        }
        let Connection {
            stream,
            input,
            output,
            open,
        } = *connection;
        let (read, write) = tokio::io::split(Box::new(stream));
        let rest = send_rest(upload, write, stall.unwrap_or(STALL), open);
        let rest = tokio::spawn(rest);
        let connection = Box::new(Connection {
            stream: Stream::Reading(read),
            input,
            output,
            open: None,
        });
        Answer::new(
            connection,
            decoder,
            false,
            Some(AbortOnDropHandle::new(rest)),
        )
    }

    /// Goes over to another protocol behind a 101.
    pub(in super::super) fn switch(self) -> Switched {
        let Connection {
            stream,
            mut input,
            open,
            ..
        } = *self.connection;
        let unsent = (!self.upload.is_complete()).then(|| Box::new(self.upload));
        Switched {
            unsent,
            read: input.take(input.buffer.len()),
            stream,
            open,
        }
    }
}

/// How many bytes of empty lines stand in front of a head.
fn leading_breaks(buffer: &[u8]) -> usize {
    let is_break = |byte: &&u8| matches!(byte, b'\r' | b'\n');
    buffer.iter().take_while(is_break).count()
}

const MOST_INTERIM: usize = 1 << 20;
/// How long a server that has answered may take nothing of the rest of an upload, where
/// `timeouts.idle` is off.
const STALL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixStream,
    };

    /// A connection, and the server's end of it.
    fn connection() -> (Box<Connection>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let connection = Connection {
            stream: Stream::Unix(ours),
            input: Default::default(),
            output: b"POST / HTTP/1.1\r\n\r\n".to_vec(),
            open: None,
        };
        (Box::new(connection), theirs)
    }

    #[tokio::test]
    async fn a_request_that_no_byte_was_written_of_is_sent_again_whole() {
        let (dead, server) = connection();
        drop(server);
        let body = Body::full("the body");
        let mut exchange = Exchange::new(dead, Method::POST, Framing::Length(8), body);
        let outcome = poll_fn(|cx| exchange.poll(cx, &drop)).await;
        let Err(SendError::Closed { written, began, .. }) = outcome else {
            panic!("it is closed");
        };
        assert!(!written && !began);
        let unsent = exchange.into_unsent().unwrap();

        let (living, mut server) = connection();
        let mut exchange = Exchange::again(living, Method::POST, unsent);
        let answer = poll_fn(|cx| exchange.poll(cx, &drop));
        let serve = async {
            let mut request = [0; 27];
            server.read_exact(&mut request).await.unwrap();
            assert_eq!(&request, b"POST / HTTP/1.1\r\n\r\nthe body");
            let answer = b"\r\nHTTP/1.1 103 Early\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
            server.write_all(answer).await.unwrap();
        };
        let (head, ()) = tokio::join!(answer, serve);
        assert_eq!(head.unwrap().status.as_u16(), 204);
    }

    #[tokio::test]
    async fn what_came_before_the_request_never_answers_it() {
        let (dead, mut server) = connection();
        let early = b"HTTP/1.1 408 Too Late\r\nContent-Length: 0\r\n\r\n";
        server.write_all(early).await.unwrap();
        drop(server);
        let mut exchange = Exchange::new(dead, Method::GET, Framing::Empty, Body::empty());
        let outcome = poll_fn(|cx| exchange.poll(cx, &drop)).await;
        assert!(matches!(
            outcome,
            Err(SendError::Closed { written: false, .. })
        ));
        assert!(exchange.into_unsent().is_some());
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_or_spoken_on_is_stale() {
        for bytes in [&b""[..], b"HTTP/1.1 408 Too Late\r\n\r\n"] {
            let (mut idle, mut server) = connection();
            assert!(!idle.is_stale());
            server.write_all(bytes).await.unwrap();
            drop(server);
            let Stream::Unix(stream) = &idle.stream else {
                unreachable!()
            };
            stream.readable().await.unwrap();
            assert!(idle.is_stale());
        }
    }

    #[tokio::test]
    async fn interim_answers_and_empty_lines_without_end_are_refused() {
        for interim in [&b"HTTP/1.1 102 Processing\r\n\r\n"[..], b"\r\n", b"\n"] {
            let (connection, mut server) = connection();
            let mut exchange =
                Exchange::new(connection, Method::GET, Framing::Empty, Body::empty());
            let flood = async {
                let interim = interim.repeat(1000);
                while server.write_all(&interim).await.is_ok() {}
            };
            let outcome = async {
                let outcome = poll_fn(|cx| exchange.poll(cx, &drop)).await;
                drop(exchange);
                outcome
            };
            let (outcome, ()) = tokio::join!(outcome, flood);
            assert!(matches!(outcome, Err(SendError::Malformed(_))));
        }
    }
}
