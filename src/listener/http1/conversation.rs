//! Requests and answers on one connection, one pair at a time.
//!
//! ```text
//!          head              answer                sent                 body read
//!   Idle --------> Asked ---------------> Answering ------> Rest ------------------> Idle
//!    |               |  the request's body is read alongside  |   not persistent
//!    | no head       |  the client leaves: dropped            +-------------------> Closing
//!    v                                        101 and the body read: handed over
//!   Refusing ---> Closing
//! ```
//!
//! One request is served after the other: what a client sends ahead waits in the buffer. While an
//! answer is awaited or written, the socket is read to learn that the client has left, unless
//! something stands in the buffer already.

use std::{
    convert::Infallible,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use tokio::{io::AsyncWrite, sync::oneshot::Sender};

use super::{
    super::{
        guard::{Broken, Served},
        io::Io,
    },
    answer,
    date::Date,
    head::{Head, HeadLimits, Refused, Said},
    received::{Feed, Wants, channel},
    refusal,
    switched::Switched,
};
use crate::exchange::{
    Body, BodyError, BringsFields, Connection, Upgrade, Upgraded,
    http1::{Decoded, Decoder, Framing, Input, Outgoing, has_blank_line},
    upgrade,
};

/// One connection, from its first byte to its last.
pub(super) struct Conversation<'a, S, F, B> {
    /// Until it is handed over to a tunnel.
    io: Option<Io>,
    input: Input,
    /// How much of an unfinished head has been looked at.
    scanned: usize,
    limits: HeadLimits,
    date: &'a Date,
    /// Where the next head's fields go: the last answer's map, emptied.
    room: HeaderMap,
    /// Where the next answer's head goes.
    output: Vec<u8>,
    /// Asks the handler.
    ask: S,
    turn: Turn<F, B>,
    /// What the request under way says to us.
    said: Said,
    body: Incoming,
    /// What is still to be written before the answer.
    interim: Vec<u8>,
    connection: &'a Connection,
    /// Of a request that asks to switch protocols.
    promise: Option<Sender<Upgraded>>,
    /// It ends behind the answer under way.
    closing: bool,
}

enum Turn<F, B> {
    /// Between two requests, or inside a head.
    Idle,
    /// The handler is at work.
    Asked(F),
    /// The answer is on its way.
    Answering(Outgoing<B>),
    /// The answer was sent; somebody may still want the rest of the request's body.
    Rest,
    /// A 101 was sent; behind the rest of the request's body another protocol begins.
    Switching,
    /// What came is no request.
    Refusing(Outgoing, Refused),
    /// Writing is over; lingering.
    Closing(Option<Refused>),
}

/// The body of the request under way.
enum Incoming {
    /// All of it was read.
    Over,
    Coming {
        decoder: Decoder,
        feed: Feed,
        /// The client holds it back until it is asked for it.
        held: bool,
    },
    /// It can't be read to its end, so no request can be found behind it.
    Lost,
}

/// Whether the connection goes on.
enum Step {
    Again,
    Over,
}

impl<'a, S, F, B> Conversation<'a, S, F, B>
where
    S: Fn(Request<Body>) -> F + Unpin,
    F: Future<Output = Result<Response<B>, Infallible>> + Unpin,
    B: HttpBody<Data = Bytes, Error = BodyError> + BringsFields + Unpin,
{
    pub(super) fn new(
        io: Io,
        limits: HeadLimits,
        date: &'a Date,
        connection: &'a Connection,
        ask: S,
    ) -> Self {
        Self {
            io: Some(io),
            input: Input::default(),
            scanned: 0,
            limits,
            date,
            room: HeaderMap::new(),
            output: Vec::new(),
            ask,
            turn: Turn::Idle,
            said: Said::default(),
            body: Incoming::Over,
            interim: Vec::new(),
            connection,
            promise: None,
            closing: false,
        }
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, Broken>> {
        let Some(io) = &mut self.io else {
            return Poll::Ready(self.end());
        };
        match &mut self.turn {
            Turn::Idle => self.poll_idle(cx),
            Turn::Asked(answer) => match Pin::new(answer).poll(cx) {
                Poll::Ready(Ok(answer)) => {
                    self.answer(answer, cx);
                    Poll::Ready(Ok(Step::Again))
                }
                Poll::Pending => {
                    // More is taken when what was taken before has been written.
                    ready!(self.poll_interim(cx))?;
                    self.take_interim(cx);
                    ready!(self.poll_interim(cx))?;
                    self.poll_client(cx)
                }
            },
            Turn::Answering(outgoing) => match outgoing.poll(io, cx) {
                Poll::Ready(Ok(())) => {
                    self.answered();
                    Poll::Ready(Ok(Step::Again))
                }
                // The frame has told why.
                Poll::Ready(Err(_)) => Poll::Ready(Err(Broken::Lost)),
                Poll::Pending => self.poll_client(cx),
            },
            Turn::Rest => self.poll_rest(cx),
            Turn::Switching => self.poll_switch(cx),
            Turn::Refusing(outgoing, _) => {
                let written = ready!(outgoing.poll(io, cx));
                self.refused(written.is_ok());
                Poll::Ready(Ok(Step::Again))
            }
            Turn::Closing(_) => {
                // Whether the client still hears of it changes nothing.
                let _ = ready!(Pin::new(io).poll_shutdown(cx));
                Poll::Ready(self.end())
            }
        }
    }

    fn end(&mut self) -> Result<Step, Broken> {
        match mem::replace(&mut self.turn, Turn::Closing(None)) {
            Turn::Closing(Some(refused)) => Err(Broken::Refused(refused)),
            _ => Ok(Step::Over),
        }
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, Broken>> {
        match ready!(self.poll_head(cx)) {
            Ok(Some(head)) => self.begin(head),
            Ok(None) => self.turn = Turn::Closing(None),
            Err(Broken::Refused(refused)) => self.refuse(refused),
            Err(broken) => return Poll::Ready(Err(broken)),
        }
        Poll::Ready(Ok(Step::Again))
    }

    /// The next head; `None` if the client is done.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Head>, Broken>> {
        let Some(io) = &mut self.io else {
            return Poll::Ready(Ok(None));
        };
        loop {
            let input = &mut self.input;
            let looked_at = self.scanned > 0
                && input.buffer.len() <= self.limits.bytes
                && !has_blank_line(&input.buffer, self.scanned);
            if !input.is_empty() && !looked_at {
                let head = Head::take(&mut input.buffer, self.limits, &mut self.room);
                if let Some(head) = head.map_err(Broken::Refused)? {
                    self.scanned = 0;
                    return Poll::Ready(Ok(Some(head)));
                }
            }
            self.scanned = input.buffer.len();
            let read = match input.is_empty() {
                true => ready!(input.poll_first(io, cx)),
                false => ready!(input.poll_read(io, cx)),
            };
            match read {
                Ok(1..) => {}
                Ok(0) if input.is_empty() => return Poll::Ready(Ok(None)),
                Ok(0) | Err(_) => return Poll::Ready(Err(Broken::Lost)),
            }
        }
    }

    fn begin(&mut self, mut head: Head) {
        self.said = mem::take(&mut head.said);
        let decoder = mem::replace(&mut head.decoder, Decoder::length(0));
        let body = self.open_body(decoder);
        let mut request = head.into_request(body);
        if self.said.upgrade {
            let (promise, upgrade) = upgrade();
            self.promise = Some(promise);
            request.extensions_mut().insert::<Upgrade>(upgrade);
        }
        self.connection.interim.next_turn();
        self.turn = Turn::Asked((self.ask)(request));
    }

    /// A body that has come whole with its head needs nobody to wait for the rest.
    fn open_body(&mut self, decoder: Decoder) -> Body {
        let left = decoder.left();
        let whole = left.and_then(|left| usize::try_from(left).ok());
        let whole = whole.filter(|length| *length <= self.input.buffer.len());
        if let Some(length) = whole {
            return Body::full(self.input.take(length));
        }
        let (feed, received) = channel(left);
        self.body = Incoming::Coming {
            decoder,
            feed,
            held: self.said.expects_continue,
        };
        Body::boxed(received)
    }

    /// While the answer is awaited or written: reads the request's body, or notices that the client
    /// has left.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, Broken>> {
        if matches!(self.body, Incoming::Coming { .. }) {
            ready!(self.poll_body(cx))?;
            return Poll::Ready(Ok(Step::Again));
        }
        if let (Some(io), Incoming::Over, true) = (&mut self.io, &self.body, self.input.is_empty())
            && let Poll::Ready(Ok(0) | Err(_)) = self.input.poll_first(io, cx)
        {
            return Poll::Ready(Err(Broken::Lost));
        }
        Poll::Pending
    }

    /// Reads the next piece of the request's body, if somebody wants it.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let Incoming::Coming { feed, held, .. } = &mut self.body else {
            return Poll::Ready(Ok(()));
        };
        match ready!(feed.poll_wants(cx)) {
            Wants::Nothing => {
                self.abandon_body(cx);
                return Poll::Ready(Ok(()));
            }
            Wants::Room { asked: false } if *held => return Poll::Pending,
            Wants::Room { .. } => {
                // RFC 9110 10.1.1: never behind the final answer's head.
                if mem::take(held) && matches!(self.turn, Turn::Asked(_)) {
                    self.interim.extend_from_slice(CONTINUE);
                }
            }
        }
        ready!(self.poll_interim(cx))?;
        loop {
            let Incoming::Coming { decoder, feed, .. } = &mut self.body else {
                return Poll::Ready(Ok(()));
            };
            match decoder.decode(&mut self.input.buffer) {
                Ok(Decoded::Data(data)) => {
                    feed.data(data);
                    if decoder.is_over() {
                        self.end_body(Feed::end);
                    }
                    return Poll::Ready(Ok(()));
                }
                Ok(Decoded::Trailers(trailers)) => {
                    self.end_body(|feed| feed.trailers(trailers));
                    return Poll::Ready(Ok(()));
                }
                Ok(Decoded::End) => {
                    self.end_body(Feed::end);
                    return Poll::Ready(Ok(()));
                }
                Ok(Decoded::More) => {}
                Err(what) => {
                    self.lose_body(what.into());
                    return Poll::Ready(Ok(()));
                }
            }
            let Some(io) = &mut self.io else {
                return Poll::Ready(Err(Broken::Lost));
            };
            match ready!(self.input.poll_read(io, cx)) {
                Ok(1..) => {}
                Ok(0) => {
                    self.lose_body("the body broke off".into());
                    return Poll::Ready(Ok(()));
                }
                Err(error) => {
                    self.lose_body(error.into());
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    fn end_body(&mut self, end: impl FnOnce(Feed)) {
        if let Incoming::Coming { feed, .. } = mem::replace(&mut self.body, Incoming::Over) {
            end(feed);
        }
    }

    /// No request can be found behind what can't be read. An answer may still tell why.
    fn lose_body(&mut self, error: BodyError) {
        self.said.persistent = false;
        if let Incoming::Coming { feed, .. } = mem::replace(&mut self.body, Incoming::Lost) {
            feed.fail(error);
        }
    }

    /// Nobody wants the rest. What has come of it already is skipped; more is not waited for.
    fn abandon_body(&mut self, cx: &mut Context<'_>) {
        let over = self.skips_body(cx);
        self.said.persistent &= over;
        self.body = match over {
            true => Incoming::Over,
            false => Incoming::Lost,
        };
    }

    /// Whether the rest of the body is here, and small.
    fn skips_body(&mut self, cx: &mut Context<'_>) -> bool {
        let (Incoming::Coming { decoder, held, .. }, Some(io)) = (&mut self.body, &mut self.io)
        else {
            return false;
        };
        let mut skipped = 0;
        // Of a body that was held back nobody knows whether it will come.
        while !*held && skipped < MOST_SKIPPED {
            match decoder.decode(&mut self.input.buffer) {
                Ok(Decoded::Data(data)) => {
                    skipped += data.len();
                    if decoder.is_over() {
                        return true;
                    }
                }
                Ok(Decoded::Trailers(_) | Decoded::End) => return true,
                Ok(Decoded::More) => match self.input.poll_read(io, cx) {
                    Poll::Ready(Ok(1..)) => {}
                    _ => return false,
                },
                Err(_) => return false,
            }
        }
        false
    }

    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while let (false, Some(io)) = (self.interim.is_empty(), &mut self.io) {
            match ready!(Pin::new(io).poll_write(cx, &self.interim)) {
                Ok(written @ 1..) => drop(self.interim.drain(..written)),
                Ok(0) | Err(_) => return Poll::Ready(Err(Broken::Lost)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn answer(&mut self, answer: Response<B>, cx: &mut Context<'_>) {
        self.settle_body(cx);
        self.said.persistent &= !self.closing;
        let (mut head, body) = answer.into_parts();
        let mut out = mem::take(&mut self.output);
        self.take_interim(cx);
        self.connection.interim.next_turn();
        out.append(&mut self.interim);
        let framing = answer::write(&mut out, &mut self.said, &head, &body, self.date);
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            self.promise = None;
        }
        self.keep_room(mem::take(&mut head.headers));
        self.turn = Turn::Answering(Outgoing::new(out, framing, body));
    }

    /// An allocation less for the next request, unless it was an odd answer.
    fn keep_room(&mut self, mut headers: HeaderMap) {
        // Second values of a name have a room of their own.
        if headers.capacity() <= USUAL_FIELDS && headers.len() == headers.keys_len() {
            headers.clear();
            self.room = headers;
        }
    }

    /// Before an answer tells whether the connection persists.
    fn settle_body(&mut self, cx: &mut Context<'_>) {
        let Incoming::Coming { feed, held, .. } = &self.body else {
            return;
        };
        // The client may send the body now or leave it out.
        self.said.persistent &= !held;
        if feed.is_abandoned() {
            self.abandon_body(cx);
        }
    }

    /// What the server has said before its answer.
    fn take_interim(&mut self, cx: &Context<'_>) {
        self.connection.interim.written_by(cx.waker());
        if let Some(mut heads) = self.connection.interim.take() {
            self.interim.append(&mut heads);
        }
    }

    fn answered(&mut self) {
        let next = match self.promise {
            Some(_) => Turn::Switching,
            None => Turn::Rest,
        };
        if let Turn::Answering(outgoing) = mem::replace(&mut self.turn, next) {
            let output = outgoing.into_output();
            if output.capacity() <= KEPT_OUTPUT {
                self.output = output;
            }
        }
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, Broken>> {
        if let Incoming::Coming { held: true, .. } = self.body {
            self.lose_body("the client was not asked for the body in time".into());
        }
        if matches!(self.body, Incoming::Coming { .. }) {
            ready!(self.poll_body(cx))?;
            return Poll::Ready(Ok(Step::Again));
        }
        let persistent = self.said.persistent && !self.closing;
        self.turn = match self.body {
            Incoming::Over if persistent => Turn::Idle,
            _ => Turn::Closing(None),
        };
        self.body = Incoming::Over;
        // What waits for the next request holds no memory.
        self.input.settle();
        Poll::Ready(Ok(Step::Again))
    }

    fn poll_switch(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, Broken>> {
        match self.body {
            Incoming::Coming { .. } => {
                ready!(self.poll_body(cx))?;
                return Poll::Ready(Ok(Step::Again));
            }
            Incoming::Lost => return Poll::Ready(Err(Broken::Lost)),
            Incoming::Over => {}
        }
        if let (Some(promise), Some(io)) = (self.promise.take(), self.io.take()) {
            let read = mem::take(&mut self.input.buffer);
            // Nobody there to take it is the end of it.
            let _ = promise.send(Box::new(Switched::new(io, read)));
        }
        Poll::Ready(Ok(Step::Over))
    }

    fn refuse(&mut self, refused: Refused) {
        let out = refusal::write(refused.reason, self.date);
        let outgoing = Outgoing::new(out, Framing::Empty, Body::empty());
        self.turn = Turn::Refusing(outgoing, refused);
    }

    fn refused(&mut self, written: bool) {
        if let Turn::Refusing(_, refused) = mem::replace(&mut self.turn, Turn::Closing(None)) {
            self.turn = Turn::Closing(Some(refused));
        }
        if !written {
            // There is nobody to linger for.
            self.io = None;
        }
    }
}

/// A cut must not look like the end of the answer: where only the connection's end tells it, the
/// connection is reset. Whatever cut it, an answer that is dropped here is not whole.
impl<S, F, B> Drop for Conversation<'_, S, F, B> {
    fn drop(&mut self) {
        if let (Turn::Answering(outgoing), Some(io)) = (&self.turn, &self.io)
            && outgoing.ends_with_connection()
        {
            io.reset();
        }
    }
}

impl<S, F, B> Future for Conversation<'_, S, F, B>
where
    S: Fn(Request<Body>) -> F + Unpin,
    F: Future<Output = Result<Response<B>, Infallible>> + Unpin,
    B: HttpBody<Data = Bytes, Error = BodyError> + BringsFields + Unpin,
{
    type Output = Result<(), Broken>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        for _ in 0..STEPS {
            if let Step::Over = ready!(self.step(cx))? {
                return Poll::Ready(Ok(()));
            }
        }
        // The worker's other connections want their turn too.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S, F, B> Served for Conversation<'_, S, F, B>
where
    S: Fn(Request<Body>) -> F + Unpin,
    F: Future<Output = Result<Response<B>, Infallible>> + Unpin,
    B: HttpBody<Data = Bytes, Error = BodyError> + BringsFields + Unpin,
{
    type Error = Broken;

    fn close(mut self: Pin<&mut Self>) {
        self.closing = true;
        if let Turn::Idle | Turn::Rest = self.turn {
            self.turn = Turn::Closing(None);
        }
    }
}

/// The largest output that waits with an idle connection.
const KEPT_OUTPUT: usize = 2 << 10;

/// The most fields whose room waits with an idle connection, some 100 bytes each.
const USUAL_FIELDS: usize = 32;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How much of a body that nobody wants is read for the sake of the connection.
const MOST_SKIPPED: usize = 64 << 10;

/// Steps of one connection before others get their turn; a small request takes four.
const STEPS: usize = 64;
