//! Of which kinds of requests something is so.
//!
//! Requests wait for those of their kind alone, since what one brings who names a caller or has cookies may be
//! nobody else's. What such an answer says of the next one holds for its kind alone, too.

use super::Visit;

/// What requests bring that may name somebody: a caller who has no answers of its own, cookies, both or
/// neither.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind(u8);

/// Some of the four kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kinds(u8);

impl Kind {
    fn of(known: bool, cookie: bool) -> Self {
        Self(1 << (u8::from(known) + 2 * u8::from(cookie)))
    }
}

impl Kinds {
    /// All of them, or none.
    pub(super) fn all(is_so: bool) -> Self {
        Self(if is_so { ALL } else { 0 })
    }

    /// Those of these bits, one for each kind.
    pub(super) fn of_bits(bits: u8) -> Self {
        Self(bits & ALL)
    }

    /// A bit for each.
    pub(super) fn bits(self) -> u8 {
        self.0
    }

    /// Whether it is so of one.
    pub(super) fn has(self, kind: Kind) -> bool {
        self.0 & kind.0 != 0
    }

    /// The same with what is known of one.
    #[must_use]
    pub(super) fn with(self, kind: Kind, is_so: bool) -> Self {
        Self(match is_so {
            true => self.0 | kind.0,
            false => self.0 & !kind.0,
        })
    }
}

impl Visit {
    /// Of which kind it is.
    pub(super) fn kind(&self) -> Kind {
        let known = self.keys.caller.is_none() && self.asked.is_known_caller();
        Kind::of(known, self.asked.cookie)
    }
}

/// The bits of all kinds. Values in Redis have them: another number of kinds, or another order, is another version.
pub(super) const ALL: u8 = 0b1111;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_apart_from_all_others() {
        let all = [(false, false), (true, false), (false, true), (true, true)];
        let all = all.map(|(known, cookie)| Kind::of(known, cookie));
        for (at, kind) in all.into_iter().enumerate() {
            let one = Kinds::all(false).with(kind, true);
            let others = Kinds::all(true).with(kind, false);
            for (other, kind) in all.into_iter().enumerate() {
                assert_eq!(
                    (one.has(kind), others.has(kind)),
                    (at == other, at != other)
                );
                assert_eq!(Kinds::of_bits(one.bits()), one);
            }
        }
        let none = all
            .into_iter()
            .fold(Kinds::all(true), |kinds, kind| kinds.with(kind, false));
        assert_eq!(none, Kinds::default());
    }
}
