//! How much of HTTP/2 the other side may send that moves nothing on.
//!
//! PING, SETTINGS, PRIORITY, WINDOW_UPDATE and interim answers cost the sender a few bytes and the
//! reader a look each, and h2 puts no bound on them: a peer that sends nothing else keeps the worker
//! from everybody else's requests (CVE-2019-9512, 9513, 9515). So each of them is paid out of a
//! budget, which requests, and DATA in either direction, fill again: honest peers send few such
//! frames for each of those. What a quiet connection sends over hours is no flood either: an empty
//! budget is filled once in [`PERIOD`].
//!
//! The frames are counted where the bytes pass, since hyper and h2 tell nobody of them. For the same
//! reason it is known here whether the peer is amid a head, and only here.

use std::{
    io::{self, IoSlice},
    time::Duration,
};

use tokio::time::Instant;

/// What the other side of the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Far {
    /// A client: the heads that it sends are requests.
    Client,
    /// A server: the heads that it sends are answers, interim ones too.
    Server,
}

/// The budget of one connection.
#[derive(Debug)]
pub struct FrameMeter {
    far: Far,
    read: Frames,
    written: Frames,
    budget: i64,
    filled: Instant,
}

impl FrameMeter {
    /// For a connection whose next byte is the first of the peer's first frame. A server is
    /// sent the preface first.
    #[must_use]
    pub fn new(far: Far) -> Self {
        let preface = if far == Far::Server { PREFACE } else { 0 };
        Self {
            far,
            read: Frames::default(),
            written: Frames {
                payload: preface,
                ..Frames::default()
            },
            budget: BUDGET,
            filled: Instant::now(),
        }
    }

    /// Takes note of bytes that the peer sent.
    ///
    /// # Errors
    ///
    /// `InvalidData` when the budget is spent.
    pub fn read(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (far, budget) = (self.far, &mut self.budget);
        self.read.pass(bytes, |kind, length| {
            *budget += worth_read(far, kind, length);
        });
        if self.budget < 0 {
            return self.refill();
        }
        self.budget = self.budget.min(MOST);
        Ok(())
    }

    /// Takes note of the first `taken` bytes of `slices`, which the socket took.
    pub fn written(&mut self, slices: &[IoSlice<'_>], mut taken: usize) {
        for slice in slices {
            let (far, budget) = (self.far, &mut self.budget);
            let bytes = &slice[..slice.len().min(taken)];
            self.written.pass(bytes, |kind, length| {
                *budget += worth_written(far, kind, length);
            });
            taken -= bytes.len();
        }
        self.budget = self.budget.min(MOST);
    }

    /// Whether the peer has begun a head that is not whole. The preface is not whole either before
    /// its SETTINGS are (RFC 9113 3.4).
    #[must_use]
    pub fn is_amid_head(&self) -> bool {
        match self.read.part {
            Part::Preface | Part::GoesOn => true,
            Part::Ends => self.read.payload > 0,
            Part::Other => false,
        }
    }

    fn refill(&mut self) -> io::Result<()> {
        let now = Instant::now();
        if now.duration_since(self.filled) < PERIOD {
            let flood = "a flood of frames that move nothing on";
            return Err(io::Error::new(io::ErrorKind::InvalidData, flood));
        }
        self.filled = now;
        self.budget = BUDGET;
        Ok(())
    }
}

/// What a frame that was read is worth.
fn worth_read(far: Far, kind: u8, length: u32) -> i64 {
    match (kind, far) {
        (DATA, _) => i64::from(length / 128),
        (HEADERS, Far::Client) => EXCHANGE,
        // h2 limits how many of them a head has.
        (CONTINUATION, Far::Client) => 0,
        _ => -1 - i64::from(length / 64),
    }
}

/// What a frame that was written is worth: an old client acknowledges every piece that it reads, of
/// 512 bytes for instance, by two WINDOW_UPDATEs.
fn worth_written(far: Far, kind: u8, length: u32) -> i64 {
    match (kind, far) {
        (DATA, _) => EXCHANGE + i64::from(length / 128),
        // Its answer may have a head of 64 KiB, trailers, and interim answers before it.
        (HEADERS, Far::Server) => 2000,
        (HEADERS, Far::Client) => EXCHANGE,
        _ => 0,
    }
}

/// Where one direction of the connection stands (RFC 9113 4.1).
#[derive(Debug, Default)]
struct Frames {
    head: [u8; 9],
    /// How much of the head is there.
    known: usize,
    /// What is left of the payload.
    payload: u32,
    /// What the last frame that began is to a head.
    part: Part,
}

/// What a frame is to a head of several frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    /// There was no frame yet: the first one ends the preface.
    #[default]
    Preface,
    /// The head goes on in the next frame (RFC 9113 4.3).
    GoesOn,
    /// The head, or the preface, ends with this frame.
    Ends,
    Other,
}

impl Part {
    fn next(self, kind: u8, flags: u8) -> Self {
        match (kind, self) {
            (HEADERS | CONTINUATION, _) if flags & END_HEADERS == 0 => Self::GoesOn,
            (HEADERS | CONTINUATION, _) | (_, Self::Preface) => Self::Ends,
            _ => Self::Other,
        }
    }
}

impl Frames {
    /// Follows the bytes and calls `each` with the type and length of every frame that begins.
    fn pass(&mut self, mut bytes: &[u8], mut each: impl FnMut(u8, u32)) {
        loop {
            let skipped = bytes.len().min(self.payload as usize);
            bytes = &bytes[skipped..];
            // Not more than the payload, so it fits.
            self.payload -= skipped as u32;
            if bytes.is_empty() {
                return;
            }
            let taken = bytes.len().min(self.head.len() - self.known);
            self.head[self.known..self.known + taken].copy_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            self.known += taken;
            if self.known < self.head.len() {
                return;
            }
            self.known = 0;
            let [a, b, c, kind, flags, ..] = self.head;
            self.payload = u32::from_be_bytes([0, a, b, c]);
            self.part = self.part.next(kind, flags);
            each(kind, self.payload);
        }
    }
}

/// Frames that a connection may send without any progress, and once more in each [`PERIOD`].
const BUDGET: i64 = 1000;
/// What progress may save up.
const MOST: i64 = 1 << 16;
const PERIOD: Duration = Duration::from_secs(10);
/// What a request, or a frame of a body, is worth. Envoy's numbers are 10 to 100.
const EXCHANGE: i64 = 20;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
/// A flag of the last two.
const END_HEADERS: u8 = 4;
/// `PRI * HTTP/2.0` and what follows it.
const PREFACE: u32 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: u8 = 4;
    const PING: u8 = 6;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        flagged(kind, 0, length)
    }

    fn flagged(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let size = (length as u32).to_be_bytes();
        let head = [size[1], size[2], size[3], kind, flags, 0, 0, 0, 0];
        [&head[..], &vec![0xff; length]].concat()
    }

    fn write(meter: &mut FrameMeter, bytes: &[u8]) {
        meter.written(&[IoSlice::new(bytes)], bytes.len());
    }

    /// How many frames are taken before the connection is given up, of 100,000.
    fn taken(meter: &mut FrameMeter, frame: &[u8]) -> usize {
        (0..100_000)
            .take_while(|_| meter.read(frame).is_ok())
            .count()
    }

    #[tokio::test(start_paused = true)]
    async fn frames_that_move_nothing_on_are_limited() {
        for (kind, length) in [(2, 5), (4, 0), (6, 8), (8, 4), (0x10, 20)] {
            let mut meter = FrameMeter::new(Far::Client);
            assert_eq!(taken(&mut meter, &frame(kind, length)), 1000, "{kind}");
        }
        let mut meter = FrameMeter::new(Far::Client);
        assert!(taken(&mut meter, &frame(4, 6000)) < 20, "long ones sooner");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_and_bodies_allow_for_more() {
        let mut meter = FrameMeter::new(Far::Client);
        let update = [frame(8, 4), frame(8, 4)].concat();
        for _ in 0..10_000 {
            meter.read(&frame(HEADERS, 50)).unwrap();
            write(&mut meter, &frame(DATA, 5));
            meter.read(&update).unwrap();
        }
        for _ in 0..10_000 {
            write(&mut meter, &frame(DATA, 16 << 10));
            (0..32).for_each(|_| meter.read(&update).unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_connection_may_ping_for_ever() {
        let mut meter = FrameMeter::new(Far::Client);
        for _ in 0..10_000 {
            tokio::time::advance(Duration::from_millis(100)).await;
            meter.read(&frame(6, 8)).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn interim_answers_are_limited_by_requests() {
        let mut meter = FrameMeter::new(Far::Server);
        write(&mut meter, &[b'x'; PREFACE as usize]);
        write(&mut meter, &frame(HEADERS, 50));
        assert_eq!(taken(&mut meter, &frame(HEADERS, 10)), 3000);
    }

    #[tokio::test(start_paused = true)]
    async fn frames_are_found_however_they_are_cut() {
        let bytes = [frame(6, 8), frame(DATA, 300), frame(1, 20), frame(4, 0)].concat();
        for size in 1..bytes.len() {
            let (mut frames, mut seen) = (Frames::default(), Vec::new());
            for piece in bytes.chunks(size) {
                frames.pass(piece, |kind, length| seen.push((kind, length)));
            }
            assert_eq!(seen, [(6, 8), (0, 300), (1, 20), (4, 0)], "{size}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_lasts_until_its_last_frame_is_whole() {
        let (settings, ping) = (frame(SETTINGS, 6), frame(PING, 8));
        let (begun, middle) = (frame(HEADERS, 3), frame(CONTINUATION, 0));
        let last = flagged(CONTINUATION, END_HEADERS, 2);
        let whole = flagged(HEADERS, END_HEADERS, 0);
        let mut meter = FrameMeter::new(Far::Client);
        assert!(meter.is_amid_head(), "the preface needs its SETTINGS");
        for (frame, amid) in [
            (settings, false),
            (ping.clone(), false),
            (begun, true),
            (middle, true),
            (last, false),
            (whole, false),
            (ping, false),
        ] {
            let (all_but_one, one) = frame.split_at(frame.len() - 1);
            let before = meter.is_amid_head();
            meter.read(all_but_one).unwrap();
            let payload = frame.len() > 9 && !matches!(frame[3], PING | DATA);
            assert_eq!(meter.is_amid_head(), before || payload, "{frame:?}");
            meter.read(one).unwrap();
            assert_eq!(meter.is_amid_head(), amid, "{frame:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_the_socket_took_counts() {
        let mut meter = FrameMeter::new(Far::Client);
        let bytes = frame(DATA, 100);
        let before = meter.budget;
        meter.written(&[IoSlice::new(&bytes[..5]), IoSlice::new(&bytes[5..])], 8);
        assert_eq!(meter.budget, before);
        write(&mut meter, &bytes[8..]);
        assert_eq!(meter.budget, before + EXCHANGE);
    }
}
