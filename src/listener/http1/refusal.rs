//! The answer to what is no request.

use std::time::SystemTime;

use super::date::Date;
use crate::exchange::Reason;

/// The envelope of refusals, without the id that only a request has.
pub(super) fn write(reason: Reason, date: &Date) -> Vec<u8> {
    let status = reason.status();
    let phrase = status.canonical_reason().unwrap_or_default();
    let envelope = reason.envelope();
    let length = envelope.len() + BEHIND.len();
    let mut out = format!(
        "HTTP/1.1 {} {phrase}\r\ncontent-type: application/json\r\ncache-control: no-store\r\n\
         content-length: {length}\r\nconnection: close\r\ndate: ",
        status.as_str()
    )
    .into_bytes();
    date.write(&mut out, SystemTime::now());
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(envelope.as_bytes());
    out.extend_from_slice(BEHIND);
    out
}

/// Closes what the envelope opens.
const BEHIND: &[u8] = b"}}";
