//! Why an answer is not kept.

use super::{policy::NotStored, store::Learnt};

/// Why an answer is not kept: by the rules of HTTP, or for what they do not speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unkept {
    /// By the rules it may not be stored.
    Rules(NotStored),
    /// There was none, or an error, and what was stale could not stand in.
    UpstreamFailed,
    /// Only its connection's end ends it.
    Unframed,
    /// It has more tags than are looked at.
    Tags,
    /// It is larger than any that is kept.
    TooLarge,
    /// It goes on for as long as somebody listens.
    Stream,
    /// It answers a HEAD.
    Head,
    /// Its request has a field by which some servers take it for another.
    Override,
}

impl Unkept {
    /// One word for `Cache-Status`, the metrics and the log.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Rules(why) => why.as_str(),
            Self::UpstreamFailed => "upstream-failed",
            Self::Unframed => "unframed",
            Self::Tags => "tags",
            Self::TooLarge => "too-large",
            Self::Stream => "stream",
            Self::Head => "head",
            Self::Override => "override",
        }
    }

    /// By what the answer turned out so: by its head, or by its size. What is streamed, how it ends and its tags
    /// are the upstream's word to who asks, too: `Accept: text/event-stream` has one stream what others may keep.
    pub(super) fn learnt(self) -> Learnt {
        match self {
            Self::TooLarge => Learnt::Whole,
            _ => Learnt::Fields,
        }
    }
}

impl From<NotStored> for Unkept {
    fn from(why: NotStored) -> Self {
        Self::Rules(why)
    }
}
