//! `Range` (RFC 9110 14.2).

use http::{HeaderMap, header::RANGE};
use smallvec::SmallVec;

use super::directives::number;

/// Bytes of a whole: at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte's place.
    pub first: u64,
    /// The last byte's place.
    pub last: u64,
    /// The length of the whole.
    pub whole: u64,
}

impl ByteRange {
    /// How many bytes it is.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.last - self.first + 1
    }
}

/// What a request's `Range` comes to on a whole of known length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeSet {
    /// The field is absent, wrong, of another unit, or asks for what is better sent whole; it is
    /// ignored (RFC 9110 14.2).
    Ignored,
    /// One part.
    One(ByteRange),
    /// It lies wholly behind the end (RFC 9110 15.5.17).
    Unsatisfiable,
}

impl RangeSet {
    /// Applies a request's `Range`.
    ///
    /// Several ranges are served as one when they join (RFC 9110 15.3.7.2 lets a server coalesce),
    /// else the whole is sent: no `multipart/byteranges` is made.
    #[must_use]
    pub fn of(request: &HeaderMap, whole: u64) -> Self {
        let mut lines = request.get_all(RANGE).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return Self::Ignored;
        };
        let Some(ranges) = parse(line.as_bytes(), whole) else {
            return Self::Ignored;
        };
        match joined(ranges) {
            Joined::None => Self::Unsatisfiable,
            Joined::One(first, last) => Self::One(ByteRange { first, last, whole }),
            Joined::Several => Self::Ignored,
        }
    }

    /// Whether it takes the length of the whole to tell what a request's `Range` comes to.
    ///
    /// What is wrong, of another unit or for parts that do not join is ignored before that is known. Of
    /// such parts a short whole might have but one; nobody waits to learn that.
    #[must_use]
    pub fn needs_length(request: &HeaderMap) -> bool {
        // What is a part of any whole is one of a whole without end.
        Self::of(request, u64::MAX) != Self::Ignored
    }
}

type Ranges = SmallVec<[(u64, u64); 4]>;

/// The satisfiable ranges; `None` when the field is wrong or has too many.
fn parse(text: &[u8], whole: u64) -> Option<Ranges> {
    let (unit, set) = text.split_at_checked(6)?;
    unit.eq_ignore_ascii_case(b"bytes=").then_some(())?;
    let mut ranges = Ranges::new();
    let mut listed = 0;
    for member in set.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
        if member.is_empty() {
            continue;
        }
        listed += 1;
        if listed > MOST_RANGES {
            return None;
        }
        ranges.extend(one(member, whole)?);
    }
    (listed > 0).then_some(ranges)
}

/// `first-`, `first-last` or `-length`; the inner `None` when it is not satisfiable.
fn one(text: &[u8], whole: u64) -> Option<Option<(u64, u64)>> {
    let dash = text.iter().position(|byte| *byte == b'-')?;
    let (first, last) = (&text[..dash], &text[dash + 1..]);
    if first.is_empty() {
        let length = number(last)?.min(whole);
        return Some((length > 0).then(|| (whole - length, whole - 1)));
    }
    let first = number(first)?;
    let last = match last {
        [] => u64::MAX,
        last => number(last)?,
    };
    (first <= last).then_some(())?;
    Some((first < whole).then(|| (first, last.min(whole - 1))))
}

enum Joined {
    None,
    One(u64, u64),
    Several,
}

fn joined(mut ranges: Ranges) -> Joined {
    ranges.sort_unstable();
    let mut ranges = ranges.into_iter();
    let Some((first, mut end)) = ranges.next() else {
        return Joined::None;
    };
    for (next, last) in ranges {
        if next > end.saturating_add(1) {
            return Joined::Several;
        }
        end = end.max(last);
    }
    Joined::One(first, end)
}

/// More are an attack rather than a wish (RFC 9110 14.2).
const MOST_RANGES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn of(range: &str, whole: u64) -> RangeSet {
        let mut request = HeaderMap::new();
        request.insert(RANGE, HeaderValue::from_str(range).unwrap());
        RangeSet::of(&request, whole)
    }

    fn one(first: u64, last: u64, whole: u64) -> RangeSet {
        RangeSet::One(ByteRange { first, last, whole })
    }

    #[test]
    fn a_range_is_cut_to_the_whole() {
        for (range, first, last) in [
            ("bytes=0-1", 0, 1),
            ("bytes=1-", 1, 9),
            ("bytes=-1", 9, 9),
            ("bytes=-99", 0, 9),
            ("bytes=9-99", 9, 9),
            ("Bytes=0-0", 0, 0),
            ("bytes=0-99999999999999999999999999", 0, 9),
            ("bytes=0-1,2-3, 3-5", 0, 5),
            ("bytes=5-6,,0-4", 0, 6),
            ("bytes=0-1, 50-60", 0, 1),
        ] {
            assert_eq!(of(range, 10), one(first, last, 10), "{range}");
        }
    }

    #[test]
    fn what_lies_behind_the_end_is_unsatisfiable() {
        for range in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=50-60,70-"] {
            assert_eq!(of(range, 10), RangeSet::Unsatisfiable, "{range}");
        }
        assert_eq!(of("bytes=0-", 0), RangeSet::Unsatisfiable);
        assert_eq!(of("bytes=-1", 0), RangeSet::Unsatisfiable);
    }

    #[test]
    fn a_wrong_range_is_ignored() {
        let many = format!("bytes={}", "0-1,".repeat(17));
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=a-b",
            "bytes=2-1",
            "bytes=1",
            "bytes= 0 - 1",
            "lines=0-1",
            "bytes=0-1,x",
            "bytes=+1-2",
            "bytes=0-0,5-6",
            &many,
        ] {
            assert_eq!(of(range, 10), RangeSet::Ignored, "{range}");
        }
    }

    #[test]
    fn two_lines_are_no_range() {
        let mut request = HeaderMap::new();
        request.append(RANGE, HeaderValue::from_static("bytes=0-1"));
        request.append(RANGE, HeaderValue::from_static("bytes=2-3"));
        assert_eq!(RangeSet::of(&request, 10), RangeSet::Ignored);
    }

    fn needs_length(range: &str) -> bool {
        let mut request = HeaderMap::new();
        request.insert(RANGE, HeaderValue::from_str(range).unwrap());
        RangeSet::needs_length(&request)
    }

    #[test]
    fn it_takes_the_length_to_tell_what_part_a_range_is_for() {
        for range in [
            "bytes=0-1",
            "bytes=5-",
            "bytes=-1",
            "bytes=-0",
            "bytes=0-1,2-",
        ] {
            assert!(needs_length(range), "{range}");
        }
        let behind_any = format!("bytes={}-", u64::MAX);
        assert!(needs_length(&behind_any));
    }

    #[test]
    fn it_takes_no_length_to_tell_that_a_range_is_ignored() {
        for range in [
            "x",
            "lines=0-1",
            "bytes=2-1",
            "bytes=0-1,9-10",
            "bytes=0-0,-1",
        ] {
            assert!(!needs_length(range), "{range}");
        }
        assert!(!RangeSet::needs_length(&HeaderMap::new()));
    }

    proptest! {
        #[test]
        fn of_any_whole_the_same_single_ranges_are_ignored(
            text in "(bytes|lines)=[0-9]{0,3}-?[0-9]{0,3}",
            whole in 0_u64..2_000,
        ) {
            prop_assert_eq!(of(&text, whole) == RangeSet::Ignored, !needs_length(&text));
        }

        #[test]
        fn a_range_never_leaves_the_whole(text in "bytes=[0-9,-]{0,20}", whole in 0_u64..100) {
            if let RangeSet::One(range) = of(&text, whole) {
                prop_assert!(range.first <= range.last && range.last < whole);
                prop_assert!(range.length() <= whole);
            }
        }
    }
}
