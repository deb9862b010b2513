//! The access log's writer: it never blocks a worker.
//!
//! Each worker appends to a buffer of its own; one thread takes the buffers and writes them. When
//! the disk or the pipe can't keep up, buffers fill up and further lines are dropped and counted:
//! the gateway goes on. Lines of one worker stay in order, those of two workers may not.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use prometheus::IntCounter;

use crate::config;

use super::output::Output;

/// Writes lines to the access log's file or to standard output.
#[derive(Debug)]
pub struct AccessLogWriter {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Debug)]
struct Shared {
    shards: Box<[Mutex<Shard>]>,
    dropped: IntCounter,
    reopen: AtomicBool,
    /// When shutting down: until when to try to write what is left.
    deadline: Mutex<Option<Instant>>,
    finished: Mutex<bool>,
    finish: Condvar,
}

/// One worker's lines. Aligned, so that two workers never share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    lines: Vec<u8>,
    closed: bool,
}

impl AccessLogWriter {
    /// Opens the output and starts the thread.
    ///
    /// `shards` is the number of workers; lines that are lost are counted in `dropped`.
    ///
    /// # Errors
    ///
    /// When the file can't be opened or the thread can't be started.
    pub fn start(
        config: &config::AccessLog,
        shards: usize,
        dropped: IntCounter,
    ) -> io::Result<Arc<Self>> {
        Self::with_output(Output::open(config.file.as_deref())?, shards, dropped)
    }

    fn with_output(output: Output, shards: usize, dropped: IntCounter) -> io::Result<Arc<Self>> {
        let shared = Arc::new(Shared {
            shards: (0..shards.max(1)).map(|_| Mutex::default()).collect(),
            dropped,
            reopen: AtomicBool::new(false),
            deadline: Mutex::new(None),
            finished: Mutex::new(false),
            finish: Condvar::new(),
        });
        let work = Work {
            shared: Arc::clone(&shared),
            output,
            batch: Vec::new(),
        };
        let thread = thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || work.run())?;
        let thread = thread.thread().clone();
        Ok(Arc::new(Self { shared, thread }))
    }

    /// Adds a line, which `fill` appends without its line end.
    ///
    /// `worker` is the worker's number. Nothing here waits for the output.
    pub fn write(&self, worker: usize, fill: impl FnOnce(&mut Vec<u8>)) {
        let shards = &self.shared.shards;
        let mut shard = lock_shard(&shards[worker % shards.len()]);
        let before = shard.lines.len();
        if shard.closed || before >= FULL {
            self.shared.dropped.inc();
            return;
        }
        fill(&mut shard.lines);
        shard.lines.push(b'\n');
        let passed = before < EAGER && shard.lines.len() >= EAGER;
        drop(shard);
        if passed {
            self.thread.unpark();
        }
    }

    /// Opens the file anew before the next write: it was moved away (SIGUSR1).
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        self.thread.unpark();
    }

    /// Writes what is left and ends the thread; waits for it for little more than two seconds.
    ///
    /// Lines that come later are dropped and counted.
    pub fn shutdown(&self) {
        let deadline = Instant::now() + LAST_TRY;
        lock(&self.shared.deadline).get_or_insert(deadline);
        self.thread.unpark();
        let finished = lock(&self.shared.finished);
        let _ = self
            .shared
            .finish
            .wait_timeout_while(finished, LAST_TRY + GRACE, |finished| !*finished);
    }
}

/// A writer that nobody holds any more ends by itself.
impl Drop for AccessLogWriter {
    fn drop(&mut self) {
        lock(&self.shared.deadline).get_or_insert_with(|| Instant::now() + LAST_TRY);
        self.thread.unpark();
    }
}

/// The thread's side.
struct Work {
    shared: Arc<Shared>,
    output: Output,
    /// Swapped with a shard's buffer.
    batch: Vec<u8>,
}

impl Work {
    fn run(mut self) {
        loop {
            // Read first: what a worker wrote before the shutdown is then in this round.
            let deadline = *lock(&self.shared.deadline);
            if self.shared.reopen.swap(false, Ordering::AcqRel) {
                self.output.reopen();
            }
            self.write_shards(deadline.is_some());
            if deadline.is_some() {
                break;
            }
            thread::park_timeout(PERIOD);
        }
        *lock(&self.shared.finished) = true;
        self.shared.finish.notify_all();
    }

    fn write_shards(&mut self, close: bool) {
        let shared = Arc::clone(&self.shared);
        for shard in &shared.shards {
            let mut shard = lock_shard(shard);
            shard.closed |= close;
            std::mem::swap(&mut shard.lines, &mut self.batch);
            drop(shard);
            self.write_batch();
        }
    }

    fn write_batch(&mut self) {
        let shared = &self.shared;
        let expired = || lock(&shared.deadline).is_some_and(|deadline| Instant::now() >= deadline);
        let lost = self.output.write(&self.batch, expired);
        shared.dropped.inc_by(lost);
        self.batch.clear();
        // A burst must not hold its memory for ever.
        self.batch.shrink_to(KEPT);
    }
}

/// A shard, whatever happened to its last writer: a line half written by a panic is taken back.
fn lock_shard(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(|poisoned| {
        shard.clear_poison();
        let mut guard = poisoned.into_inner();
        let whole = memchr::memrchr(b'\n', &guard.lines).map_or(0, |end| end + 1);
        guard.lines.truncate(whole);
        guard
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The values are single words: they can't be half written.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The longest time that a line waits for its write.
const PERIOD: Duration = Duration::from_millis(200);
/// The thread is woken when a shard passes this size.
const EAGER: usize = 64 << 10;
/// A shard of this size takes no more lines.
const FULL: usize = 4 << 20;
/// What a buffer keeps of its memory after a burst.
const KEPT: usize = 256 << 10;
/// How long a shutdown tries to write what is left.
const LAST_TRY: Duration = Duration::from_secs(2);
/// How much longer a shutdown waits for the thread to notice.
const GRACE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Read, os::unix::net::UnixStream, path::Path, sync::Barrier};

    fn start(path: &Path, shards: usize) -> (Arc<AccessLogWriter>, IntCounter) {
        let dropped = IntCounter::new("dropped", "dropped").unwrap();
        let config = config::AccessLog {
            file: Some(path.to_owned()),
            ..config::AccessLog::default()
        };
        let writer = AccessLogWriter::start(&config, shards, dropped.clone()).unwrap();
        (writer, dropped)
    }

    /// A writer into a pipe that takes little and that nobody reads to begin with.
    fn stuck() -> (Arc<AccessLogWriter>, IntCounter, UnixStream) {
        let (reader, pipe) = UnixStream::pair().unwrap();
        pipe.set_nonblocking(true).unwrap();
        let file = std::fs::File::from(std::os::fd::OwnedFd::from(pipe));
        let dropped = IntCounter::new("dropped", "dropped").unwrap();
        let output = Output::to(file, None);
        let writer = AccessLogWriter::with_output(output, 1, dropped.clone()).unwrap();
        (writer, dropped, reader)
    }

    fn write(writer: &AccessLogWriter, worker: usize, line: &str) {
        writer.write(worker, |out| out.extend_from_slice(line.as_bytes()));
    }

    #[test]
    fn lines_of_all_workers_arrive_whole_and_in_their_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let (writer, dropped) = start(&path, 3);
        thread::scope(|scope| {
            for worker in 0..3 {
                let writer = &writer;
                scope.spawn(move || {
                    for number in 0..5_000 {
                        write(writer, worker, &format!("{worker} {number}"));
                    }
                });
            }
        });
        writer.shutdown();
        let text = std::fs::read_to_string(&path).unwrap();
        for worker in ["0", "1", "2"] {
            let lines = text.lines().filter_map(|line| line.split_once(' '));
            let numbers = lines
                .filter(|(of, _)| *of == worker)
                .map(|(_, number)| number);
            assert!(numbers.eq((0..5_000).map(|number| number.to_string())));
        }
        assert_eq!(dropped.get(), 0);
    }

    #[test]
    fn a_line_behind_the_shutdown_is_counted_as_lost() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let (writer, dropped) = start(&path, 1);
        write(&writer, 0, "before");
        writer.shutdown();
        write(&writer, 0, "behind");
        writer.shutdown();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before\n");
        assert_eq!(dropped.get(), 1);
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew() {
        let directory = tempfile::tempdir().unwrap();
        let (path, old) = (directory.path().join("log"), directory.path().join("old"));
        let (writer, _) = start(&path, 1);
        std::fs::rename(&path, &old).unwrap();
        writer.reopen();
        // The thread may be at its old file until it has seen the wish.
        let deadline = Instant::now() + Duration::from_secs(5);
        while !path.exists() && Instant::now() < deadline {
            thread::yield_now();
        }
        write(&writer, 0, "new");
        writer.shutdown();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new\n");
    }

    #[test]
    fn a_stuck_output_costs_lines_and_never_a_worker_s_time() {
        let (writer, dropped, reader) = stuck();
        let line = "x".repeat(1 << 20);
        let begun = Instant::now();
        for _ in 0..40 {
            write(&writer, 0, &line);
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "a worker waited");
        assert!(dropped.get() > 0);
        drop(reader);
        writer.shutdown();
    }

    #[test]
    fn an_output_that_comes_back_gets_what_was_buffered() {
        let (writer, dropped, mut reader) = stuck();
        let lines: Vec<_> = (0..50_000).map(|number| format!("{number:020}")).collect();
        for line in &lines {
            write(&writer, 0, line);
        }
        let both = Barrier::new(2);
        thread::scope(|scope| {
            let reading = scope.spawn(|| {
                both.wait();
                let mut text = String::new();
                reader.read_to_string(&mut text).unwrap();
                text
            });
            both.wait();
            writer.shutdown();
            drop(writer);
            assert_eq!(reading.join().unwrap().lines().count(), lines.len());
        });
        assert_eq!(dropped.get(), 0);
    }

    #[test]
    fn a_shutdown_does_not_wait_for_a_stuck_output_for_ever() {
        let (writer, dropped, _reader) = stuck();
        write(&writer, 0, &"x".repeat(3 << 20));
        let begun = Instant::now();
        writer.shutdown();
        assert!(begun.elapsed() < LAST_TRY + Duration::from_secs(2));
        assert_eq!(dropped.get(), 1);
    }

    #[test]
    fn a_line_half_written_by_a_panic_is_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let (writer, _) = start(&path, 1);
        write(&writer, 0, "one");
        let broken = thread::scope(|scope| {
            let panics = || {
                writer.write(0, |out| {
                    out.extend_from_slice(b"half");
                    panic!("in the middle of a line");
                });
            };
            scope.spawn(panics).join()
        });
        assert!(broken.is_err());
        write(&writer, 0, "two");
        writer.shutdown();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    }
}
