//! Revocations in a set of Redis, mirrored by polling.
//!
//! Requests look into the mirror alone. While Redis is away the last list serves, up to `max_stale`.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use redis::Value;

use super::{Revocation, Revocations, list::List};
use crate::{exchange::Clock, pipeline::Tools, store::Redis};

/// The mirror of a set.
pub(super) struct RedisRevocations {
    list: ArcSwapOption<List>,
    /// When the newest list began to be read: nanoseconds on the clock.
    read_at: AtomicU64,
    clock: Clock,
    max_stale: Duration,
}

impl RedisRevocations {
    /// Mirrors a set for as long as the value lives. Without a Redis, which the configuration does
    /// not let happen, nothing is known and nobody is let in.
    pub(super) fn mirror(
        set: &str,
        refresh: Duration,
        max_stale: Duration,
        tools: &Tools,
    ) -> Arc<Self> {
        let mirror = Arc::new(Self {
            list: ArcSwapOption::empty(),
            read_at: AtomicU64::new(0),
            clock: tools.clock.clone(),
            max_stale,
        });
        if let Some(redis) = &tools.redis {
            let (redis, mirror) = (Arc::clone(redis), Arc::downgrade(&mirror));
            let (set, clock) = (set.to_owned(), tools.clock.clone());
            tools
                .control
                .spawn(poll(redis, mirror, set, refresh, clock));
        }
        mirror
    }
}

impl Revocations for RedisRevocations {
    fn check(&self, id: Option<&str>, subject: &str) -> Revocation {
        let list = self.list.load();
        let Some(list) = &*list else {
            return Revocation::Unknown;
        };
        if list.contains(id, subject) {
            return Revocation::Revoked;
        }
        let read_at = Duration::from_nanos(self.read_at.load(Ordering::Acquire));
        match self.clock.now().saturating_sub(read_at) > self.max_stale {
            true => Revocation::Unknown,
            false => Revocation::Clear,
        }
    }
}

async fn poll(
    redis: Arc<Redis>,
    mirror: Weak<RedisRevocations>,
    set: String,
    refresh: Duration,
    clock: Clock,
) {
    let mut usable = true;
    loop {
        let began = clock.now();
        let read = read(&redis, &set).await;
        let Some(mirror) = mirror.upgrade() else {
            return;
        };
        if read.is_err() && usable {
            tracing::warn!(
                set,
                "the list of revoked tokens can't be read; the last one serves"
            );
        }
        usable = read.is_ok();
        if let Ok(list) = read {
            mirror.list.store(Some(Arc::new(list)));
            let began = u64::try_from(began.as_nanos()).unwrap_or(u64::MAX);
            mirror.read_at.store(began, Ordering::Release);
        }
        drop(mirror);
        match usable {
            true => clock.sleep_until(clock.now() + refresh).await,
            // The next try is often what has Redis looked for.
            false => tokio::time::sleep(refresh.min(AGAIN)).await,
        }
    }
}

/// Reads a set page by page: each is answered within the deadline.
///
/// What is in the set is its owner's matter: it says nothing about Redis.
async fn read(redis: &Arc<Redis>, set: &str) -> Result<List, ()> {
    let (mut text, mut cursor) = (String::new(), Vec::from(*b"0"));
    loop {
        let mut command = redis::cmd("SSCAN");
        command.arg(set).arg(&cursor).arg("COUNT").arg(PAGE);
        // Control is no worker: it has a connection of its own.
        let page = redis.ask(usize::MAX, &command).await.map_err(drop)?;
        cursor = take_page(page, &mut text).ok_or(())?;
        if text.len() > LARGEST {
            return Err(());
        }
        if cursor == b"0" {
            return List::parse(&text).map_err(drop);
        }
    }
}

/// Adds a page's members, a line each; the next cursor. `None` for what is no page, or holds what
/// could be read as two members.
fn take_page(page: Value, text: &mut String) -> Option<Vec<u8>> {
    let Value::Array(parts) = page else {
        return None;
    };
    let [Value::BulkString(cursor), Value::Array(members)] = <[Value; 2]>::try_from(parts).ok()?
    else {
        return None;
    };
    for member in members {
        let Value::BulkString(member) = member else {
            return None;
        };
        let member = String::from_utf8(member).ok()?;
        if member.contains(char::is_control) || member.starts_with('#') {
            return None;
        }
        text.push_str(&member);
        text.push('\n');
    }
    let is_number = !cursor.is_empty() && cursor.iter().all(u8::is_ascii_digit);
    is_number.then_some(cursor)
}

const PAGE: u32 = 1_000;
/// As of a file.
const LARGEST: usize = 64 << 20;
const AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn page(cursor: &str, members: &[&str]) -> Value {
        let bulk = |text: &str| Value::BulkString(text.into());
        let members = members.iter().map(|text| bulk(text)).collect();
        Value::Array(vec![bulk(cursor), Value::Array(members)])
    }

    #[test]
    fn a_page_is_a_cursor_and_members() {
        let mut text = String::new();
        assert_eq!(
            take_page(page("17", &["a", "sub:b"]), &mut text),
            Some(b"17".to_vec())
        );
        assert_eq!(text, "a\nsub:b\n");
        for wrong in [
            page("x", &[]),
            page("", &[]),
            page("0", &["a\nb"]),
            page("0", &["# a"]),
            Value::Nil,
            Value::Array(vec![Value::Int(0), Value::Array(Vec::new())]),
        ] {
            assert_eq!(take_page(wrong, &mut text), None);
        }
    }
}
