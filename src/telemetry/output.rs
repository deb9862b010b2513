//! Where access-log lines go, and what happens when that does not work.
//!
//! Hazards: standard output may be a pipe that somebody made non-blocking (EAGAIN), a disk may be
//! full in the middle of a line (ENOSPC), a reader may be gone (EPIPE). Lines are then lost and
//! counted; the process never stops for its log.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// An open file, or standard output.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    /// `None` for standard output, which is never reopened.
    path: Option<PathBuf>,
    /// Whether the last write broke off inside a line.
    torn: bool,
    /// Whether the last write failed; only the first failure is reported.
    failing: bool,
}

impl Output {
    /// Opens a file for appending, made with mode 0640 if it is new; `None` is standard output.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        let file = match path {
            Some(path) => append_to(path)?,
            // Its own descriptor: std's handle would buffer by line and lock.
            None => File::from(io::stdout().as_fd().try_clone_to_owned()?),
        };
        Ok(Self::to(file, path))
    }

    /// A file that is already open.
    pub(super) fn to(file: File, path: Option<&Path>) -> Self {
        Self {
            file,
            path: path.map(Path::to_path_buf),
            torn: false,
            failing: false,
        }
    }

    /// Opens the file anew; the old one stays when that fails.
    pub(super) fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        match append_to(path) {
            Ok(file) => {
                // The same file again, if nobody moved it: it still ends inside a line.
                let torn = self.torn && file.metadata().is_ok_and(|data| data.len() > 0);
                *self = Self {
                    torn,
                    ..Self::to(file, Some(path))
                };
            }
            Err(error) => {
                let path = path.display();
                tracing::error!(%path, %error, "the access log could not be reopened");
            }
        }
    }

    /// Writes whole lines; returns how many were lost.
    ///
    /// While the output takes nothing (EAGAIN) it waits, until `give_up` says so.
    pub(super) fn write(&mut self, lines: &[u8], give_up: impl Fn() -> bool) -> u64 {
        if lines.is_empty() {
            return 0;
        }
        match write_all(&mut self.file, &mut self.torn, lines, give_up) {
            Ok(()) => {
                self.failing = false;
                0
            }
            Err((written, error)) => {
                self.report(&error);
                count_lines(&lines[written..])
            }
        }
    }

    fn report(&mut self, error: &io::Error) {
        if !self.failing {
            tracing::error!(%error, "the access log can't be written; lines are lost");
        }
        self.failing = true;
    }
}

/// Writes everything, or tells how far it came.
///
/// `torn` is whether the output ends inside a line, before and after.
fn write_all(
    output: &mut impl Write,
    torn: &mut bool,
    lines: &[u8],
    give_up: impl Fn() -> bool,
) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while written < lines.len() {
        // The rest of a torn line is lost; the next line must not be glued to its beginning.
        let chunk = if *torn && written == 0 {
            b"\n"
        } else {
            &lines[written..]
        };
        match output.write(chunk) {
            Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
            Ok(_) if *torn && written == 0 => *torn = false,
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && !give_up() => {
                thread::sleep(PAUSE);
            }
            Err(error) => {
                *torn |= written > 0 && lines[written - 1] != b'\n';
                return Err((written, error));
            }
        }
    }
    Ok(())
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

fn count_lines(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

/// How long to wait for an output that takes nothing.
const PAUSE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::RefCell, collections::VecDeque, os::unix::fs::PermissionsExt};

    /// Takes so many bytes, or fails, write by write.
    struct Script {
        steps: VecDeque<Result<usize, ErrorKind>>,
        written: Vec<u8>,
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self
                .steps
                .pop_front()
                .unwrap_or(Ok(usize::MAX))?
                .min(bytes.len());
            self.written.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn script(steps: &[Result<usize, ErrorKind>]) -> Script {
        Script {
            steps: steps.iter().copied().collect(),
            written: Vec::new(),
        }
    }

    #[test]
    fn partial_writes_go_on_where_they_stopped() {
        let mut output = script(&[
            Ok(2),
            Err(ErrorKind::Interrupted),
            Err(ErrorKind::WouldBlock),
            Ok(1),
        ]);
        let written = write_all(&mut output, &mut false, b"one\ntwo\n", || false);
        assert!(written.is_ok());
        assert_eq!(output.written, b"one\ntwo\n");
    }

    #[test]
    fn a_line_that_broke_off_does_not_spoil_the_next() {
        let mut output = script(&[Ok(6), Err(ErrorKind::StorageFull)]);
        let mut torn = false;
        let (written, _) = write_all(&mut output, &mut torn, b"one\ntwo\n", || false).unwrap_err();
        assert_eq!((written, torn), (6, true));
        write_all(&mut output, &mut torn, b"three\n", || false).unwrap();
        assert_eq!(output.written, b"one\ntw\nthree\n");
        assert!(!torn);
    }

    #[test]
    fn a_failure_between_two_lines_tears_nothing() {
        let mut output = script(&[Ok(4), Err(ErrorKind::BrokenPipe)]);
        let mut torn = false;
        assert!(write_all(&mut output, &mut torn, b"one\ntwo\n", || false).is_err());
        assert!(!torn);
    }

    #[test]
    fn an_output_that_takes_nothing_is_given_up_when_told() {
        let mut output = script(&[Err(ErrorKind::WouldBlock); 9]);
        let tries = RefCell::new(0);
        let give_up = || tries.replace_with(|tries| *tries + 1) >= 3;
        let (written, error) = write_all(&mut output, &mut false, b"one\n", give_up).unwrap_err();
        assert_eq!((written, error.kind()), (0, ErrorKind::WouldBlock));
    }

    #[test]
    fn lines_that_a_full_disk_refuses_are_counted() {
        // The kernel's own full disk.
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let mut output = Output::to(full, None);
        assert_eq!(output.write(b"one\ntwo\n", || false), 2);
        assert_eq!(output.write(b"three\n", || false), 1);
    }

    #[test]
    fn a_new_file_is_not_for_everybody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let mut output = Output::open(Some(&path)).unwrap();
        assert_eq!(output.write(b"one\n", || false), 0);
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o137, 0, "{mode:o}");
    }

    #[test]
    fn a_file_that_can_not_be_reopened_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("logs");
        std::fs::create_dir(&inner).unwrap();
        let mut output = Output::open(Some(&inner.join("access.log"))).unwrap();
        let moved = directory.path().join("moved");
        std::fs::rename(&inner, &moved).unwrap();
        output.reopen();
        assert_eq!(output.write(b"one\n", || false), 0);
        assert_eq!(std::fs::read(moved.join("access.log")).unwrap(), b"one\n");
    }
}
