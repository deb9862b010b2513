//! Values made from files, and made anew when the files change.
//!
//! One thread looks at all files once a second; a system's own notices (inotify) are not used, since
//! they miss changes on network file systems and in mounted configuration maps. A file that can't be
//! read, or not understood, keeps the value that it gave last.
//!
//! A disk may hang, and no call of it comes back then. So a task on the control runtime waits for the
//! thread for some seconds only: then the file that it is at counts as unreadable, which starts the
//! clock of whoever uses an old value for so long and no longer, and another thread looks at the
//! others. There are at most as many threads as files that hang.
//!
//! Hazards: a file that is written in place can be seen half written, and half a list of revoked
//! tokens is a whole list too. So a file in place is read only when it has stood still for a look;
//! one that was put there by a rename is read at once.

use std::{
    fmt, fs,
    hash::BuildHasher,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use arc_swap::{ArcSwapOption, Guard};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{MissedTickBehavior, interval, timeout},
};

/// Looks at files and has their values made anew. A clone watches the same files.
#[derive(Clone)]
pub struct FileWatch(Arc<Watch>);

struct Watch {
    control: Handle,
    timing: Timing,
    files: Mutex<Vec<Weak<dyn Look>>>,
    looking: AtomicBool,
}

/// How often files are looked at, and how long that may take.
#[derive(Clone, Copy)]
struct Timing {
    period: Duration,
    patience: Duration,
}

/// Which file is watched, and who is told.
pub struct WatchedFile {
    /// Whose file it is, for the log: `api_keys.partners`.
    pub owner: Arc<str>,
    /// The file.
    pub path: PathBuf,
    /// A file of more bytes is not read.
    pub most: u64,
    /// Told after each reading of new content whether it could be used.
    pub report: Box<dyn Fn(bool) + Send + Sync>,
}

/// The value of a file; the file is watched as long as this lives.
pub struct Watched<T>(Arc<File<T>>);

impl FileWatch {
    /// Looks at files beside this runtime, which keeps the time; reading and parsing are done on a
    /// thread of their own.
    #[must_use]
    pub fn new(control: Handle) -> Self {
        let (period, patience) = (PERIOD, PATIENCE);
        Self::with(control, Timing { period, patience })
    }

    fn with(control: Handle, timing: Timing) -> Self {
        Self(Arc::new(Watch {
            control,
            timing,
            files: Mutex::default(),
            looking: AtomicBool::new(false),
        }))
    }

    /// Reads a file now and whenever it has changed. It blocks: not to be called on a worker.
    ///
    /// `parse` makes the value, or tells what is wrong; that is logged and must hold no secret.
    pub fn watch<T: Send + Sync + 'static>(
        &self,
        file: WatchedFile,
        parse: impl Fn(&str) -> Result<T, String> + Send + Sync + 'static,
    ) -> Watched<T> {
        let file = Arc::new(File {
            file,
            parse: Box::new(parse),
            value: ArcSwapOption::empty(),
            seen: Mutex::default(),
            late: AtomicBool::new(false),
        });
        file.look();
        let look: Arc<dyn Look> = Arc::clone(&file) as _;
        locked(&self.0.files).push(Arc::downgrade(&look));
        if !self.0.looking.swap(true, Ordering::Relaxed) {
            let control = self.0.control.clone();
            control.spawn(look_again(Arc::downgrade(&self.0), self.0.timing));
        }
        Watched(file)
    }
}

impl fmt::Debug for FileWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileWatch")
    }
}

impl<T> Watched<T> {
    /// The value that the file gave last; `None` as long as it never gave one.
    #[must_use]
    pub fn get(&self) -> Guard<Option<Arc<T>>> {
        self.0.value.load()
    }
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").field(&self.0.file.path).finish()
    }
}

/// A file of any type.
trait Look: Send + Sync {
    /// Reads the file, if it has changed. Nothing happens while another thread is at it.
    fn look(&self);

    /// Tells of a look that does not come back, once as long as it does not.
    fn late(&self);
}

/// Makes a value of a text, or tells what is wrong with it.
type Parse<T> = Box<dyn Fn(&str) -> Result<T, String> + Send + Sync>;

struct File<T> {
    file: WatchedFile,
    parse: Parse<T>,
    value: ArcSwapOption<T>,
    /// Locked while the file is looked at.
    seen: Mutex<Seen>,
    /// Whether it was told that the look at it does not come back.
    late: AtomicBool,
}

/// What the last looks have shown.
#[derive(Default)]
struct Seen {
    /// The file's state when it was read last.
    read: Option<Stamp>,
    /// Its state at the last look.
    last: Option<Stamp>,
    /// The content that the value was made from, as a hash.
    content: Option<u64>,
    /// What is wrong with the file as it is now.
    fault: Option<String>,
}

/// What changes when a file's content does.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    /// Device and number: another file under the same name.
    identity: (u64, u64),
    length: u64,
    modified: (i64, i64),
    /// Of the inode: a program that sets back the time of modification does not set this back.
    changed: (i64, i64),
}

impl<T: Send + Sync> Look for File<T> {
    fn look(&self) {
        let mut seen = match self.seen.try_lock() {
            Ok(seen) => seen,
            Err(TryLockError::Poisoned(seen)) => seen.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let stamp = stamp(&self.file.path);
        if self.came_back(&mut seen) {
            seen.read = None;
        }
        match stamp {
            Ok(stamp) if seen.is_settled(stamp) => self.read(&mut seen, stamp),
            Ok(_) => {}
            Err(error) => {
                // One that comes back as it was is read again, or it would count as gone for ever.
                seen.read = None;
                self.fault(&mut seen, format!("it can't be read: {error}"));
            }
        }
    }

    fn late(&self) {
        let looking = matches!(self.seen.try_lock(), Err(TryLockError::WouldBlock));
        if looking && !self.late.swap(true, Ordering::Relaxed) {
            self.tell(LATE);
        }
    }
}

impl Seen {
    /// Whether a file in this state has to be read, and can be.
    fn is_settled(&mut self, now: Stamp) -> bool {
        let before = self.last.replace(now);
        let Some(read) = self.read else {
            return true;
        };
        now != read && (now.identity != read.identity || before == Some(now))
    }
}

impl<T> File<T> {
    fn read(&self, seen: &mut Seen, stamp: Stamp) {
        let text = read_capped(&self.file.path, self.file.most);
        self.came_back(seen);
        let text = match text {
            Ok(text) => text,
            Err(error) => return self.fault(seen, format!("it can't be read: {error}")),
        };
        seen.read = Some(stamp);
        let content = foldhash::quality::FixedState::default().hash_one(&text);
        if seen.content != Some(content) {
            match (self.parse)(&text) {
                Ok(value) => self.value.store(Some(Arc::new(value))),
                Err(findings) => return self.fault(seen, findings),
            }
        } else if seen.fault.is_none() {
            return;
        }
        seen.content = Some(content);
        seen.fault = None;
        (self.file.report)(true);
        let (owner, path) = (&self.file.owner, self.file.path.display());
        tracing::info!(%owner, %path, "the file was read");
    }

    /// Tells of a fault, once as long as it is the same.
    fn fault(&self, seen: &mut Seen, fault: String) {
        if seen.fault.as_ref() == Some(&fault) {
            return;
        }
        self.tell(&fault);
        seen.fault = Some(fault);
    }

    /// Whether it was told that the look does not come back: now it has.
    fn came_back(&self, seen: &mut Seen) -> bool {
        let late = self.late.swap(false, Ordering::Relaxed);
        if late {
            seen.fault = Some(LATE.to_owned());
        }
        late
    }

    fn tell(&self, fault: &str) {
        (self.file.report)(false);
        let (owner, path) = (&self.file.owner, self.file.path.display());
        let kept = self.value.load().is_some();
        tracing::error!(%owner, %path, kept, %fault, "the file can't be used; what it said before is kept");
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let metadata = fs::metadata(path)?;
    Ok(Stamp {
        identity: (metadata.dev(), metadata.ino()),
        length: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

fn read_capped(path: &Path, most: u64) -> io::Result<String> {
    let mut text = String::new();
    let file = fs::File::open(path)?;
    file.take(most.saturating_add(1))
        .read_to_string(&mut text)?;
    if text.len() as u64 > most {
        let message = format!("it has more than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}

/// Has all files looked at for ever.
async fn look_again(watch: Weak<Watch>, timing: Timing) {
    let mut ticks = interval(timing.period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looker = None;
    loop {
        ticks.tick().await;
        let Some(files) = watch.upgrade().map(|watch| watch.living()) else {
            return;
        };
        if files.is_empty() {
            continue;
        }
        let Some(at_work) = looker.take().or_else(Looker::start) else {
            continue;
        };
        looker = at_work.look(files, timing.patience).await;
    }
}

/// A thread that looks at files. It ends when this is dropped, as soon as it can.
struct Looker(mpsc::Sender<Round>);

/// Files to look at, and who waits for that.
type Round = (Files, oneshot::Sender<()>);
type Files = Arc<[Arc<dyn Look>]>;

impl Looker {
    fn start() -> Option<Self> {
        let (rounds, asked) = mpsc::channel::<Round>();
        let thread = thread::Builder::new().name("tollgate-files".to_owned());
        let look = move || {
            for (files, done) in asked {
                files.iter().for_each(|file| file.look());
                // Nobody waits any more if it took too long.
                let _ = done.send(());
            }
        };
        match thread.spawn(look) {
            Ok(_) => Some(Self(rounds)),
            Err(error) => {
                tracing::error!(%error, "files are not looked at: no thread could be started");
                None
            }
        }
    }

    /// Looks at files; `None` when the thread is not to be used any more: it hangs, or a parser has
    /// panicked, which the panic hook has told, and the files behind get their turn next time.
    async fn look(self, files: Vec<Arc<dyn Look>>, patience: Duration) -> Option<Self> {
        let files = Files::from(files);
        let (done, waits) = oneshot::channel();
        self.0.send((Arc::clone(&files), done)).ok()?;
        match timeout(patience, waits).await {
            Ok(Ok(())) => Some(self),
            Ok(Err(_)) => None,
            Err(_) => {
                files.iter().for_each(|file| file.late());
                None
            }
        }
    }
}

impl Watch {
    fn living(&self) -> Vec<Arc<dyn Look>> {
        let mut files = locked(&self.files);
        files.retain(|file| file.strong_count() > 0);
        files.iter().filter_map(Weak::upgrade).collect()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole after a panic in a parser: nothing is written before it has returned.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const PERIOD: Duration = Duration::from_secs(1);
/// Far more than the largest file takes to be read and understood.
const PATIENCE: Duration = Duration::from_secs(10);
const LATE: &str = "reading it takes too long: its disk may hang";

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use tempfile::TempDir;

    struct Numbers {
        folder: TempDir,
        watched: Watched<u32>,
        good: Arc<AtomicUsize>,
        bad: Arc<AtomicUsize>,
        _runtime: tokio::runtime::Runtime,
    }

    impl Numbers {
        fn new(text: &str) -> Self {
            let folder = TempDir::new().unwrap();
            let path = folder.path().join("number");
            fs::write(&path, text).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap();
            let watch = FileWatch::new(runtime.handle().clone());
            let (watched, good, bad) = watched_number(&watch, &path);
            Self {
                watched,
                folder,
                good,
                bad,
                _runtime: runtime,
            }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("number")
        }

        fn replace(&self, text: &str) {
            let new = self.folder.path().join("new");
            fs::write(&new, text).unwrap();
            fs::rename(new, self.path()).unwrap();
        }

        fn look(&self) -> Option<u32> {
            self.watched.0.look();
            self.watched.get().as_deref().copied()
        }

        fn told(&self) -> (usize, usize) {
            let of = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
            (of(&self.good), of(&self.bad))
        }
    }

    #[test]
    fn a_file_that_was_replaced_is_read_at_the_next_look() {
        let numbers = Numbers::new("1");
        assert_eq!(numbers.look(), Some(1));
        numbers.replace("2");
        assert_eq!(numbers.look(), Some(2));
        assert_eq!(numbers.told(), (2, 0));
    }

    #[test]
    fn a_file_that_is_written_in_place_is_read_when_it_stands_still() {
        let numbers = Numbers::new("1");
        fs::write(numbers.path(), "22").unwrap();
        assert_eq!(numbers.look(), Some(1));
        fs::write(numbers.path(), "222").unwrap();
        assert_eq!(numbers.look(), Some(1));
        assert_eq!(numbers.look(), Some(222));
    }

    #[test]
    fn a_broken_or_missing_file_keeps_the_value_and_is_told_once() {
        let numbers = Numbers::new("1");
        numbers.replace("x");
        assert_eq!((numbers.look(), numbers.look()), (Some(1), Some(1)));
        assert_eq!(numbers.told(), (1, 1));
        fs::remove_file(numbers.path()).unwrap();
        assert_eq!((numbers.look(), numbers.look()), (Some(1), Some(1)));
        assert_eq!(numbers.told(), (1, 2));
        numbers.replace("1");
        assert_eq!(numbers.look(), Some(1));
        assert_eq!(numbers.told(), (2, 2), "it is good again");
    }

    fn watched_number(
        watch: &FileWatch,
        path: &Path,
    ) -> (Watched<u32>, Arc<AtomicUsize>, Arc<AtomicUsize>) {
        let (good, bad) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (told_good, told_bad) = (Arc::clone(&good), Arc::clone(&bad));
        let file = WatchedFile {
            owner: "numbers".into(),
            path: path.to_owned(),
            most: 10,
            report: Box::new(move |ok| {
                let told = if ok { &told_good } else { &told_bad };
                told.fetch_add(1, Ordering::SeqCst);
            }),
        };
        let parse = |text: &str| text.trim().parse().map_err(|_| "no number".to_owned());
        (watch.watch(file, parse), good, bad)
    }

    async fn until(holds: impl Fn() -> bool) {
        let wait = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(Duration::from_secs(10), wait).await.unwrap();
    }

    /// Nobody writes into the pipe: to open it takes for ever, as a call of a disk that hangs.
    #[tokio::test]
    async fn a_file_that_hangs_counts_as_unreadable_and_holds_up_no_other() {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        let replace = |name: &str, text: &str| {
            fs::write(path("new"), text).unwrap();
            fs::rename(path("new"), path(name)).unwrap();
        };
        replace("hanging", "1");
        replace("other", "1");
        let timing = Timing {
            period: Duration::from_millis(2),
            patience: Duration::from_millis(100),
        };
        let watch = FileWatch::with(Handle::current(), timing);
        let (hanging, good, bad) = watched_number(&watch, &path("hanging"));
        let (other, _, bad_other) = watched_number(&watch, &path("other"));
        let number = |watched: &Watched<u32>| watched.get().as_deref().copied();
        let made = std::process::Command::new("mkfifo")
            .arg(path("pipe"))
            .status();
        assert!(made.unwrap().success());
        fs::hard_link(path("pipe"), path("new")).unwrap();
        fs::rename(path("new"), path("hanging")).unwrap();
        until(|| bad.load(Ordering::SeqCst) == 1).await;
        replace("other", "2");
        until(|| number(&other) == Some(2)).await;
        assert_eq!(number(&hanging), Some(1), "it is kept");
        replace("hanging", "3");
        fs::write(path("pipe"), "2").unwrap();
        until(|| number(&hanging) == Some(3)).await;
        let told = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        assert_eq!((told(&good), told(&bad)), (3, 1));
        assert_eq!(told(&bad_other), 0);
    }

    #[test]
    fn a_file_over_its_cap_is_a_fault() {
        let numbers = Numbers::new("1");
        numbers.replace("00000000001");
        assert_eq!(numbers.look(), Some(1));
        assert_eq!(numbers.told(), (1, 1));
    }

    #[test]
    fn a_file_that_was_never_good_has_no_value_until_it_is() {
        let numbers = Numbers::new("x");
        assert_eq!(numbers.look(), None);
        numbers.replace("3");
        assert_eq!(numbers.look(), Some(3));
    }

    #[test]
    fn a_touched_file_is_not_told_anew() {
        let numbers = Numbers::new("1");
        numbers.replace("1");
        assert_eq!(numbers.look(), Some(1));
        assert_eq!(numbers.told(), (1, 0));
    }
}
