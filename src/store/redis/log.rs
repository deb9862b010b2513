//! The log of purges: in which order all gateways have purged what is not one URL.
//!
//! Redis numbers the entries and keeps the last of them. A log has a name, made by chance: should
//! Redis lose it, or a part of it, the next one has another name, and numbers of before mean nothing.

use std::sync::Arc;

use redis::{Cmd, Value};

use super::{Away, Redis};

/// Where a log has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogHead {
    /// The log's name.
    pub name: u64,
    /// The number of its last entry; the first has 1.
    pub last: u64,
}

/// Entries of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPart {
    /// Where the log has come to: the number of the last of these entries.
    pub head: LogHead,
    /// The entries, the oldest first.
    pub entries: Vec<Vec<u8>>,
}

impl LogHead {
    /// Reads it as it stands in Redis.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (name, last) = text.split_once(':')?;
        Some(Self {
            name: named(name)?,
            last: last.parse().ok().filter(|last| *last < LARGEST)?,
        })
    }
}

impl Redis {
    /// The key under which the log's [`LogHead`] stands.
    #[must_use]
    pub fn log_key(&self) -> String {
        format!("{}{{purges}}:head", self.prefix())
    }

    /// Adds an entry; which one it has become.
    ///
    /// # Errors
    ///
    /// When there is no usable answer within the deadline. It may have been added all the same.
    pub async fn append(self: &Arc<Self>, entry: &[u8]) -> Result<LogHead, Away> {
        let push = |command: &mut Cmd| {
            self.push_keys(command, "append");
            command.arg(MOST_ENTRIES).arg(entry);
        };
        let value = self.answers(usize::MAX, push).await?;
        appended(&value).ok_or_else(|| self.garbage())
    }

    /// The entries that follow what is known; all that there are, where they do not follow it.
    ///
    /// # Errors
    ///
    /// When there is no usable answer within the deadline.
    pub async fn since(
        self: &Arc<Self>,
        worker: usize,
        known: Option<LogHead>,
    ) -> Result<LogPart, Away> {
        let known = known.unwrap_or_default();
        let push = |command: &mut Cmd| {
            self.push_keys(command, "since");
            command.arg(format!("{:016x}", known.name)).arg(known.last);
        };
        let value = self.answers(worker, push).await?;
        part(value).ok_or_else(|| self.garbage())
    }

    fn push_keys(&self, command: &mut Cmd, operation: &str) {
        command.arg(2).arg(self.log_key());
        command.arg(format!("{}{{purges}}:log", self.prefix()));
        command.arg(operation);
        // Never the zero that stands for none.
        command.arg(format!("{:016x}", fastrand::u64(1..)));
    }
}

fn named(name: &str) -> Option<u64> {
    let hex = name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(name, 16).ok().filter(|_| hex)
}

fn head(name: &Value, last: &Value) -> Option<LogHead> {
    let (Value::BulkString(name), Value::Int(last)) = (name, last) else {
        return None;
    };
    Some(LogHead {
        name: named(std::str::from_utf8(name).ok()?)?,
        last: u64::try_from(*last).ok()?,
    })
}

fn appended(value: &Value) -> Option<LogHead> {
    match value {
        Value::Array(values) => match values.as_slice() {
            [name, last] => head(name, last).filter(|head| head.last > 0),
            _ => None,
        },
        _ => None,
    }
}

fn part(value: Value) -> Option<LogPart> {
    let Value::Array(values) = value else {
        return None;
    };
    let [name, last, Value::Array(entries)] = values.as_slice() else {
        return None;
    };
    let head = head(name, last)?;
    if entries.len() as u64 > head.last {
        return None;
    }
    let text = |entry: &Value| match entry {
        Value::BulkString(entry) => Some(entry.clone()),
        _ => None,
    };
    let entries = entries.iter().map(text).collect::<Option<_>>()?;
    Some(LogPart { head, entries })
}

/// What Redis keeps of the log. What is stored and older is worth nothing.
const MOST_ENTRIES: usize = 4_096;
/// Numbers are exact in the script up to there.
const LARGEST: u64 = 1 << 53;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_head_is_a_name_and_a_number() {
        let head = LogHead::read(b"00000000000000ff:12");
        assert_eq!(
            head,
            Some(LogHead {
                name: 255,
                last: 12
            })
        );
        for wrong in [
            "",
            "ff:12",
            "00000000000000ff",
            "00000000000000ff:",
            "00000000000000ff:-1",
            "+0000000000000ff:1",
            "00000000000000ff:9007199254740992",
        ] {
            assert_eq!(LogHead::read(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn a_part_has_no_more_entries_than_there_were() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let answer = |last, entries: &[&str]| {
            let entries = entries.iter().map(|entry| text(entry)).collect();
            Value::Array(vec![
                text("00000000000000ff"),
                Value::Int(last),
                Value::Array(entries),
            ])
        };
        assert_eq!(part(answer(5, &["a", "b"])).unwrap().entries.len(), 2);
        assert_eq!(part(answer(1, &["a", "b"])), None);
        assert_eq!(part(answer(-1, &[])), None);
        assert_eq!(part(Value::Array(vec![text("x"), Value::Int(1)])), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_head_or_none(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = LogHead::read(&bytes);
        }
    }
}
