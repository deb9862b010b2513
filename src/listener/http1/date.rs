//! The time of answers.

use std::{
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

/// The value of `Date` (RFC 9110 6.6.1), written once a second and worker.
#[derive(Debug, Default)]
pub(in super::super) struct Date(Mutex<Written>);

#[derive(Debug, Default)]
struct Written {
    second: u64,
    text: String,
}

impl Date {
    /// Writes the value at a time.
    pub(super) fn write(&self, out: &mut Vec<u8>, now: SystemTime) {
        // A clock before 1970 is one that nobody has set.
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if written.text.is_empty() || written.second != since.as_secs() {
            written.second = since.as_secs();
            written.text = httpdate::fmt_http_date(UNIX_EPOCH + since);
        }
        out.extend_from_slice(written.text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_date_is_that_of_its_second_whichever_way_the_clock_goes() {
        let date = Date::default();
        let mut out = Vec::new();
        date.write(&mut out, UNIX_EPOCH - Duration::from_secs(9));
        assert_eq!(out, b"Thu, 01 Jan 1970 00:00:00 GMT");
        let at = |seconds| {
            let mut out = Vec::new();
            date.write(&mut out, UNIX_EPOCH + Duration::from_millis(seconds));
            String::from_utf8(out).unwrap()
        };
        assert_eq!(at(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(at(784_111_777_999), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(784_111_776_999), "Sun, 06 Nov 1994 08:49:36 GMT");
    }
}
