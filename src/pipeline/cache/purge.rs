//! What has been purged, and when.
//!
//! Nothing is looked for: a purge writes down its moment, and whoever takes an answer out of the
//! store, or is about to put one in, compares that with the moment at which the answer's fetch
//! began. So a purge costs the same whatever is stored, and a fetch that was under way when it came
//! can't bring the old answer back.
//!
//! The moments of tags stand in cells that they share by their hash. Two that meet in a cell are purged
//! together: that loses an answer, and never keeps one. With a host or a route it would be many answers, so
//! each of these has two cells, of which the earlier moment counts: that others meet it in both is rare. URLs
//! have no cells, but [marks](super::urls) of those of which something is here: any client whose unsafe
//! request succeeds purges one, and a flood of these must cost no answer but their own. Prefixes are
//! bans, a short list; when it is full the oldest becomes a purge of everything that old.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

use arc_swap::ArcSwap;
use smallvec::SmallVec;

use super::urls::{Held, UrlMark, Urls, WEIGHT};
use crate::exchange::{host, target};

/// A moment in nanoseconds since the process began.
pub(super) type Stamp = u64;

/// What an answer can be purged by; made once, before its fetch begins.
#[derive(Clone, Debug)]
pub(super) struct Marks {
    url: Arc<UrlMark>,
    cells: SmallVec<[Cell; 4]>,
    host: Box<str>,
    path: Box<str>,
}

impl Marks {
    /// Adds what another answer under the same key, so of the same URL, could be purged by.
    pub(super) fn extend(&mut self, other: &Self) {
        for cell in &other.cells {
            if !self.cells.contains(cell) {
                self.cells.push(*cell);
            }
        }
    }

    /// By how much it can be purged.
    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Bytes on the heap. Answers that share a mark are charged with it each.
    pub(super) fn weight(&self) -> usize {
        let spilled = match self.cells.spilled() {
            true => self.cells.capacity() * size_of::<Cell>(),
            false => 0,
        };
        spilled + self.host.len() + self.path.len() + WEIGHT
    }
}

/// What a purge is aimed at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Aim {
    /// One URL, whatever it varies by.
    Url {
        /// The host as the client uses it, with a port other than the scheme's own.
        host: Box<str>,
        /// Path and query.
        target: Box<str>,
    },
    /// All paths that begin so, at any host or at one.
    Prefix {
        /// The host; none is any.
        host: Option<Box<str>>,
        /// The beginning of the path.
        path: Box<str>,
    },
    /// All of one host: at one of its ports, or where none is given at all of them.
    Host(Box<str>),
    /// All that one route has stored.
    Route(Box<str>),
    /// All answers that the upstream gave this tag.
    Tag(Box<str>),
    /// Everything.
    Everything,
}

impl Aim {
    /// The same with host and path in the form in which requests are taken: however they are spelt
    /// here, they mean what the client asked for.
    #[must_use]
    pub fn plain(self) -> Self {
        let host_of = |host: Box<str>| host::plain(&host).into();
        match self {
            Self::Url { host, target } => Self::Url {
                host: host_of(host),
                target: target::plain(&target).into(),
            },
            Self::Prefix { host, path } => Self::Prefix {
                host: host.map(host_of),
                path: target::plain(&path).into(),
            },
            Self::Host(host) => Self::Host(host_of(host)),
            other => other,
        }
    }

    /// The host and the target, if it is one URL.
    pub(super) fn url(&self) -> Option<(&str, &str)> {
        match self {
            Self::Url { host, target } => Some((host, target)),
            _ => None,
        }
    }
}

/// How a purge reaches an answer, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reached {
    /// Not at all.
    No,
    /// It is stale since then.
    Stale(Stamp),
    /// It is gone.
    Gone,
}

/// All purges of one store.
#[derive(Debug)]
pub(super) struct Purges {
    hasher: RandomState,
    urls: Urls,
    hard: Moments,
    /// Soft purges are rare, so their cells are made by the first.
    soft: OnceLock<Moments>,
    /// Cells of tags.
    size: usize,
    bans: ArcSwap<Bans>,
    /// The moment of the newest ban, so that answers younger than it are compared with none.
    newest_ban: AtomicU64,
    /// The moment of the newest purge of all, so that a look at answers younger than it costs one load:
    /// cells lie all over the memory.
    newest: AtomicU64,
    writing: Mutex<()>,
}

#[derive(Debug)]
struct Moments {
    tags: Box<[AtomicU64]>,
    /// Of hosts and routes: one half has the first cell of each, the other one the second.
    wide: [Box<[AtomicU64]>; 2],
    everything: AtomicU64,
}

/// Where a moment stands: the number of a tag's cell, or those of the two of a host or a route with a
/// bit that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell(u32);

#[derive(Debug, Default)]
struct Bans {
    list: Vec<Ban>,
}

#[derive(Clone, Debug)]
struct Ban {
    at: Stamp,
    soft: bool,
    host: Option<Box<str>>,
    path: Box<str>,
}

impl Purges {
    /// For a store of so many bytes.
    pub(super) fn new(memory: u64) -> Self {
        let cells = (memory / BYTES_PER_CELL).clamp(FEWEST_CELLS, MOST_CELLS);
        let size = (cells as usize).next_power_of_two();
        Self {
            hasher: RandomState::new(),
            urls: Urls::new(),
            hard: Moments::new(size),
            soft: OnceLock::new(),
            size,
            bans: ArcSwap::default(),
            newest_ban: AtomicU64::new(0),
            newest: AtomicU64::new(0),
            writing: Mutex::new(()),
        }
    }

    /// Bytes that the bookkeeping takes, soft purges included.
    pub(super) fn weight(&self) -> u64 {
        (2 * (self.size + WIDE_CELLS) * size_of::<AtomicU64>() + Urls::weight()) as u64
    }

    /// What an answer to a request can be purged by. It is to be asked for before the moment at which the
    /// fetch begins: purges of a URL are remembered for who has its marks.
    ///
    /// `whole_query` tells whether the target holds the query as it came; else a purge of a URL
    /// reaches the answer by its path.
    pub(super) fn marks(&self, host: &str, target: &str, whole_query: bool, route: &str) -> Marks {
        let host_cell = self.wide_cell(Kind::Host, host);
        let route = self.wide_cell(Kind::Route, route);
        let mut cells: SmallVec<[Cell; 4]> = SmallVec::from_slice(&[host_cell, route]);
        // Who purges a host without a port means it at whatever port.
        cells.extend(without_port(host).map(|name| self.wide_cell(Kind::Host, name)));
        Marks {
            url: self.urls.mark((host, target), whole_query),
            cells,
            host: host.into(),
            path: path_of(target).into(),
        }
    }

    /// Adds the tags that the upstream gave the answer.
    pub(super) fn tag<'a>(&self, marks: &mut Marks, tags: impl Iterator<Item = &'a str>) {
        marks.cells.extend(tags.map(|tag| self.tag_cell(tag)));
    }

    /// Has what is purged now remembered as long as it is held, whether or not it is here.
    pub(super) fn hold(&self, aim: &Aim) -> Held {
        aim.url()
            .map_or_else(Held::nothing, |url| self.urls.hold(url))
    }

    /// Purges. `now` must be read after the purge was asked for.
    pub(super) fn purge(&self, aim: &Aim, soft: bool, now: Stamp) {
        match aim {
            Aim::Url { host, target } => {
                // Of most URLs that clients change nothing is here.
                if !self.urls.purge((host, target), soft, now) {
                    return;
                }
            }
            Aim::Host(host) => self.write(soft, self.wide_cell(Kind::Host, host), now),
            Aim::Route(route) => self.write(soft, self.wide_cell(Kind::Route, route), now),
            Aim::Tag(tag) => self.write(soft, self.tag_cell(tag), now),
            Aim::Everything => {
                self.moments(soft).everything.fetch_max(now, Relaxed);
            }
            Aim::Prefix { host, path } => self.ban(Ban {
                at: now,
                soft,
                host: host.clone(),
                path: path.clone(),
            }),
        }
        // Behind the purge itself: who sees its moment sees it too.
        self.newest.fetch_max(now, Release);
    }

    /// Whether a purge has reached an answer whose fetch began then.
    ///
    /// `checked` remembers up to which ban the answer was compared.
    pub(super) fn reached(&self, marks: &Marks, began: Stamp, checked: &AtomicU64) -> Reached {
        if self.newest.load(Acquire) < began {
            return Reached::No;
        }
        match marks.url.reached(began) {
            Reached::Gone => Reached::Gone,
            by_url => by_url.max(self.reached_widely(marks, began, checked)),
        }
    }

    /// The same for an answer out of a store that others fill too. Purges of its URL count since one
    /// moment: those of before have been looked for where it was stored. All others count since the
    /// moment `began`.
    pub(super) fn reached_elsewhere(&self, marks: &Marks, began: Stamp, since: Stamp) -> Reached {
        if marks.url.reached(since) != Reached::No {
            return Reached::Gone;
        }
        if self.newest.load(Acquire) < began {
            return Reached::No;
        }
        self.reached_widely(marks, began, &AtomicU64::new(0))
    }

    /// Whether a purge of anything but its URL has reached an answer.
    fn reached_widely(&self, marks: &Marks, began: Stamp, checked: &AtomicU64) -> Reached {
        if self.hard.latest(&marks.cells) >= began {
            return Reached::Gone;
        }
        let mut stale = 0;
        if let Some(soft) = self.soft.get() {
            let latest = soft.latest(&marks.cells);
            stale = if latest >= began { latest } else { 0 };
        }
        // Who sees its moment sees the ban in the list: else the answer would be taken for compared.
        let newest = self.newest_ban.load(Acquire);
        if newest >= began && newest != checked.load(Relaxed) {
            match self.banned(marks, began) {
                Reached::Gone => return Reached::Gone,
                Reached::Stale(at) => stale = stale.max(at),
                Reached::No => checked.store(newest, Relaxed),
            }
        }
        match stale {
            0 => Reached::No,
            at => Reached::Stale(at),
        }
    }

    /// Bans in force.
    pub(super) fn bans(&self) -> usize {
        self.bans.load().list.len()
    }

    fn banned(&self, marks: &Marks, began: Stamp) -> Reached {
        let bans = self.bans.load();
        let mut stale = 0;
        for ban in bans.list.iter().filter(|ban| ban.at >= began) {
            match (ban.matches(marks), ban.soft) {
                (true, false) => return Reached::Gone,
                (true, true) => stale = stale.max(ban.at),
                (false, _) => {}
            }
        }
        match stale {
            0 => Reached::No,
            at => Reached::Stale(at),
        }
    }

    fn ban(&self, mut ban: Ban) {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = self.bans.load().list.clone();
        // Each is later than the one before: answers remember by its moment up to which they were
        // compared.
        let at = ban.at.max(self.newest_ban.load(Relaxed) + 1);
        ban.at = at;
        // The same ban again takes the place of the old one.
        list.retain(|known| {
            (known.soft, &known.host, &known.path) != (ban.soft, &ban.host, &ban.path)
        });
        if list.len() >= MOST_BANS {
            let oldest = list.remove(0);
            self.hard.everything.fetch_max(oldest.at, Relaxed);
        }
        list.push(ban);
        self.bans.store(Arc::new(Bans { list }));
        self.newest_ban.fetch_max(at, Release);
        // It may be later than now.
        self.newest.fetch_max(at, Release);
    }

    fn write(&self, soft: bool, cell: Cell, at: Stamp) {
        self.moments(soft).write(cell, at);
    }

    fn moments(&self, soft: bool) -> &Moments {
        match soft {
            true => self.soft.get_or_init(|| Moments::new(self.size)),
            false => &self.hard,
        }
    }

    fn tag_cell(&self, tag: &str) -> Cell {
        Cell::of_tag(self.hasher.hash_one(tag), self.size)
    }

    fn wide_cell(&self, kind: Kind, name: &str) -> Cell {
        Cell::of_two(self.hasher.hash_one((kind, name)))
    }
}

impl Cell {
    /// That of a tag with this hash, of so many.
    fn of_tag(hash: u64, size: usize) -> Self {
        Self((hash as usize & (size - 1)) as u32)
    }

    /// Those of a host or a route with this hash.
    fn of_two(hash: u64) -> Self {
        Self(TWO | (hash as u32 & (TWO - 1)))
    }

    /// The place in each half, if it is two cells.
    fn two(self) -> Option<[usize; 2]> {
        let places = [self.0 as usize, self.0 as usize / HALF];
        (self.0 & TWO != 0).then(|| places.map(|place| place % HALF))
    }
}

impl Moments {
    /// With so many cells of tags.
    fn new(size: usize) -> Self {
        Self {
            tags: cells(size),
            wide: [cells(HALF), cells(HALF)],
            everything: AtomicU64::new(0),
        }
    }

    fn write(&self, cell: Cell, at: Stamp) {
        match cell.two() {
            Some([first, second]) => {
                self.wide[0][first].fetch_max(at, Relaxed);
                self.wide[1][second].fetch_max(at, Relaxed);
            }
            None => {
                if let Some(tag) = self.tags.get(cell.0 as usize) {
                    tag.fetch_max(at, Relaxed);
                }
            }
        }
    }

    fn latest(&self, cells: &[Cell]) -> Stamp {
        let newest = cells.iter().map(|cell| self.moment(*cell)).max();
        newest.unwrap_or(0).max(self.everything.load(Relaxed))
    }

    fn moment(&self, cell: Cell) -> Stamp {
        match cell.two() {
            Some([first, second]) => {
                let moments = [&self.wide[0][first], &self.wide[1][second]];
                let [first, second] = moments.map(|cell| cell.load(Relaxed));
                first.min(second)
            }
            None => {
                let tag = self.tags.get(cell.0 as usize);
                tag.map_or(0, |tag| tag.load(Relaxed))
            }
        }
    }
}

impl Ban {
    fn matches(&self, marks: &Marks) -> bool {
        let here = self.host.as_ref().is_none_or(|host| *host == marks.host);
        here && marks.path.starts_with(&*self.path)
    }
}

/// The name of a host that has a port.
fn without_port(host: &str) -> Option<&str> {
    let (name, port) = host.rsplit_once(':')?;
    // An address in brackets has colons of its own.
    port.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(name)
}

/// What of a target stands before its query.
pub(super) fn path_of(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

fn cells(count: usize) -> Box<[AtomicU64]> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

/// Keeps the names of a host and a route apart.
#[derive(Clone, Copy, Hash)]
enum Kind {
    Host,
    Route,
}

/// One cell for each so many bytes of memory: about one tag for each answer of some size.
const BYTES_PER_CELL: u64 = 2 << 10;
const FEWEST_CELLS: u64 = 1 << 10;
const MOST_CELLS: u64 = 1 << 20;
/// Cells of hosts and routes.
const WIDE_CELLS: usize = 1 << 10;
const HALF: usize = WIDE_CELLS / 2;
/// The bit that tells two cells from one; below it there is room for the places of both.
const TWO: u32 = 1 << 31;
const MOST_BANS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(purges: &Purges, marks: &Marks, began: Stamp) -> Reached {
        purges.reached(marks, began, &AtomicU64::new(0))
    }

    fn url(host: &str, target: &str) -> Aim {
        Aim::Url {
            host: host.into(),
            target: target.into(),
        }
    }

    fn prefix(host: Option<&str>, path: &str) -> Aim {
        Aim::Prefix {
            host: host.map(Into::into),
            path: path.into(),
        }
    }

    #[test]
    fn each_aim_reaches_what_it_names_and_what_was_fetched_before_it() {
        let reaching = [
            url("a.test", "/x/y?q"),
            prefix(None, "/x/"),
            prefix(Some("a.test"), "/x"),
            Aim::Host("a.test".into()),
            Aim::Route("r".into()),
            Aim::Tag("t2".into()),
            Aim::Everything,
        ];
        let others = [
            url("a.test", "/x/y"),
            url("b.test", "/x/y?q"),
            prefix(None, "/y"),
            prefix(Some("b.test"), "/x"),
            Aim::Host("r".into()),
            Aim::Route("a.test".into()),
            Aim::Tag("t3".into()),
        ];
        for (aims, wanted) in [(&reaching[..], Reached::Gone), (&others[..], Reached::No)] {
            for aim in aims {
                let purges = Purges::new(1 << 30);
                let mut marks = purges.marks("a.test", "/x/y?q", true, "r");
                purges.tag(&mut marks, ["t1", "t2"].into_iter());
                purges.purge(aim, false, 100);
                assert_eq!(reached(&purges, &marks, 100), wanted, "{aim:?}");
                assert_eq!(reached(&purges, &marks, 101), Reached::No, "{aim:?}");
            }
        }
    }

    #[test]
    fn a_host_without_a_port_is_purged_at_all_of_its_ports() {
        for (host, reaching, others) in [
            (
                "a.test:8080",
                &["a.test", "a.test:8080"][..],
                &["a.test:80", "a"][..],
            ),
            ("a.test", &["a.test"], &["a.test:8080"]),
            ("[::1]:8080", &["[::1]", "[::1]:8080"], &["[:", "[::1]:80"]),
            ("[::1]", &["[::1]"], &["[:", "[::1]:8080"]),
        ] {
            let purges = Purges::new(1 << 30);
            let marks = purges.marks(host, "/x", true, "r");
            for aim in others {
                purges.purge(&Aim::Host((*aim).into()), false, 100);
                assert_eq!(reached(&purges, &marks, 50), Reached::No, "{host} by {aim}");
            }
            for (aim, at) in reaching.iter().zip([110, 120]) {
                purges.purge(&Aim::Host((*aim).into()), false, at);
                assert_eq!(
                    reached(&purges, &marks, at),
                    Reached::Gone,
                    "{host} by {aim}"
                );
            }
        }
    }

    #[test]
    fn a_soft_purge_makes_stale_and_a_hard_one_stands_above_it() {
        for aim in [url("a.test", "/x"), prefix(None, "/x"), Aim::Everything] {
            let purges = Purges::new(1 << 20);
            let marks = purges.marks("a.test", "/x", true, "r");
            purges.purge(&aim, true, 100);
            assert_eq!(reached(&purges, &marks, 50), Reached::Stale(100));
            purges.purge(&aim, false, 110);
            assert_eq!(reached(&purges, &marks, 50), Reached::Gone);
            assert_eq!(reached(&purges, &marks, 111), Reached::No);
            purges.purge(&aim, true, 120);
            assert_eq!(reached(&purges, &marks, 111), Reached::Stale(120));
        }
    }

    #[test]
    fn a_url_is_purged_by_its_path_where_not_all_of_its_query_counts() {
        let purges = Purges::new(1 << 20);
        let marks = purges.marks("a.test", "/x?page=1", false, "r");
        purges.purge(&url("a.test", "/x?page=1&utm=2"), false, 100);
        assert_eq!(reached(&purges, &marks, 50), Reached::Gone);
    }

    #[test]
    fn purges_of_urls_reach_no_other_url_however_many_there_are() {
        let purges = Purges::new(1 << 20);
        let targets = (0..300).map(|number| format!("/kept/{number}"));
        let kept: Vec<_> = targets
            .map(|target| purges.marks("a.test", &target, true, "r"))
            .collect();
        for number in 0..100_000 {
            purges.purge(&url("a.test", &format!("/{number}")), false, 100);
        }
        purges.purge(&url("a.test", "/kept/7"), false, 100);
        let gone = |marks: &&Marks| reached(&purges, marks, 50) == Reached::Gone;
        assert_eq!(kept.iter().filter(gone).count(), 1);
        assert_eq!(reached(&purges, &kept[7], 50), Reached::Gone);
    }

    #[test]
    fn purges_of_urls_reach_no_whole_host_route_or_tag() {
        let purges = Purges::new(1 << 20);
        let targets = (0..1_000).map(|number| format!("/{number}"));
        let kept = targets.map(|target| purges.marks("a.test", &target, true, "r"));
        let kept: Vec<_> = kept.collect();
        for number in 0..100_000 {
            purges.purge(&url("a.test", &format!("/{number}")), false, 100);
        }
        assert!(
            kept.iter()
                .all(|marks| reached(&purges, marks, 50) == Reached::Gone)
        );
        let wide = [
            purges.wide_cell(Kind::Host, "a.test"),
            purges.wide_cell(Kind::Route, "r"),
            purges.tag_cell("t"),
        ];
        assert_eq!(purges.hard.latest(&wide), 0);
    }

    #[test]
    fn purges_of_hosts_reach_hardly_any_other_host_in_the_smallest_memory() {
        let purges = Purges::new(1 << 20);
        let purge = |number| Aim::Host(format!("purged{number}.test").into());
        for number in 0..32 {
            purges.purge(&purge(number), false, 100);
        }
        let reached = |name: &str| {
            let cell = purges.wide_cell(Kind::Host, name);
            purges.hard.latest(&[cell]) == 100
        };
        assert!((0..32).all(|number| reached(&format!("purged{number}.test"))));
        let others = (0..2_000).map(|number| format!("{number}.test"));
        let lost = others.filter(|name| reached(name)).count();
        // A sixteenth of a sixteenth, about eight; with one cell for each it would be sixty.
        assert!(lost < 30, "{lost}");
        assert!(purges.weight() < 48 << 10, "{}", purges.weight());
    }

    #[test]
    fn of_two_bans_at_one_moment_none_is_missed() {
        let purges = Purges::new(1 << 20);
        let marks = purges.marks("a.test", "/x", true, "r");
        let checked = AtomicU64::new(0);
        purges.purge(&prefix(None, "/y"), false, 100);
        assert_eq!(purges.reached(&marks, 50, &checked), Reached::No);
        purges.purge(&prefix(None, "/x"), false, 100);
        assert_eq!(purges.reached(&marks, 50, &checked), Reached::Gone);
        // The second is taken to be a little later.
        assert_eq!(reached(&purges, &marks, 101), Reached::Gone);
        assert_eq!(reached(&purges, &marks, 102), Reached::No);
        let marks = purges.marks("a.test", "/z", true, "r");
        assert_eq!(purges.reached(&marks, 50, &checked), Reached::No);
        purges.purge(&prefix(None, "/z"), false, 90);
        assert_eq!(purges.reached(&marks, 50, &checked), Reached::Gone);
    }

    #[test]
    fn bans_over_the_cap_purge_more_and_never_less() {
        let purges = Purges::new(1 << 20);
        let marks = purges.marks("a.test", "/first/x", true, "r");
        let other = purges.marks("a.test", "/other", true, "r");
        for at in 1..=300 {
            let path = if at == 1 {
                "/first".into()
            } else {
                format!("/{at}")
            };
            purges.purge(&prefix(None, &path), false, at);
        }
        assert_eq!(purges.bans(), MOST_BANS);
        assert_eq!(reached(&purges, &marks, 1), Reached::Gone);
        assert_eq!(
            reached(&purges, &other, 1),
            Reached::Gone,
            "as old as a ban that was dropped"
        );
        assert_eq!(reached(&purges, &other, 299), Reached::No);
    }

    #[test]
    fn elsewhere_a_url_counts_since_another_moment_than_all_the_rest() {
        for (aim, wanted) in [
            (url("a.test", "/x"), Reached::No),
            (Aim::Route("r".into()), Reached::Gone),
            (prefix(None, "/"), Reached::Gone),
            (Aim::Everything, Reached::Gone),
        ] {
            let purges = Purges::new(1 << 30);
            let marks = purges.marks("a.test", "/x", true, "r");
            purges.purge(&aim, false, 100);
            assert_eq!(purges.reached_elsewhere(&marks, 50, 150), wanted, "{aim:?}");
            assert_eq!(purges.reached_elsewhere(&marks, 101, 150), Reached::No);
            let since = purges.reached_elsewhere(&marks, 50, 100);
            assert_eq!(since, Reached::Gone, "{aim:?}");
        }
    }

    #[test]
    fn an_answer_is_compared_with_a_ban_once() {
        let purges = Purges::new(1 << 20);
        let marks = purges.marks("a.test", "/x", true, "r");
        let checked = AtomicU64::new(0);
        purges.purge(&prefix(None, "/y"), false, 100);
        assert_eq!(purges.reached(&marks, 50, &checked), Reached::No);
        assert_eq!(checked.load(Relaxed), 100);
        purges.purge(&prefix(None, "/x"), false, 101);
        assert_eq!(purges.reached(&marks, 50, &checked), Reached::Gone);
    }
}
