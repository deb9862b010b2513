//! From hyper's errors to ours: whose fault it was, and whether to try again.

use std::{error::Error, io};

use crate::exchange::{BodyError, BodyFault, Reason, Retry, UpstreamError};

/// What a failed send over HTTP/2 means.
///
/// `written` tells whether any of the request may have reached the server: hyper hands back what it
/// never wrote.
pub(super) fn of_send(error: hyper::Error, written: bool) -> UpstreamError {
    if let Some(fault) = BodyFault::in_chain(&error) {
        return UpstreamError::new(fault.0, Retry::Never).because(error);
    }
    if !written || was_refused(&error) {
        return UpstreamError::new(Reason::UpstreamClosed, Retry::Always).because(error);
    }
    if error.is_parse() || broke_protocol(&error) || never_ended(&error) {
        return UpstreamError::new(Reason::UpstreamProtocol, Retry::Never).because(error);
    }
    UpstreamError::new(Reason::UpstreamClosed, Retry::IfIdempotent).because(error)
}

/// What it means that a connection ended before there was an answer: whether any of the request was
/// `written`, and whether an answer `began`.
pub(super) fn of_close(error: io::Error, written: bool, began: bool) -> UpstreamError {
    let retry = match (written, began) {
        (false, _) => Retry::Always,
        (true, false) => Retry::IfIdempotent,
        (true, true) => Retry::Never,
    };
    UpstreamError::new(Reason::UpstreamClosed, retry).because(error)
}

/// What it means that the client's body can't be sent.
pub(super) fn of_body(error: BodyError) -> UpstreamError {
    let fault = BodyFault::in_chain(&*error);
    let reason = fault.map_or(Reason::BodyInvalid, |fault| fault.0);
    UpstreamError::new(reason, Retry::Never).because(error)
}

/// What came is no answer.
pub(super) fn malformed(what: &'static str) -> UpstreamError {
    UpstreamError::new(Reason::UpstreamProtocol, Retry::Never).because(what)
}

/// What a failed connect means.
pub(super) fn of_connect(error: io::Error) -> UpstreamError {
    let reason = match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Reason::ConnectRefused,
        io::ErrorKind::TimedOut => Reason::ConnectTimeout,
        _ => Reason::ConnectFailed,
    };
    UpstreamError::new(reason, Retry::Always).because(error)
}

/// RFC 9113 8.7: REFUSED_STREAM, and a GOAWAY, promise that nothing was processed.
fn was_refused(error: &hyper::Error) -> bool {
    h2_error(error).is_some_and(|h2| {
        h2.reason() == Some(h2::Reason::REFUSED_STREAM)
            || (h2.is_go_away() && h2.reason() == Some(h2::Reason::NO_ERROR))
    })
}

/// A meter's word for a head that does not come to an end, or a flood of frames.
fn never_ended(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref());
    cause.is_some_and(|cause: &io::Error| cause.kind() == io::ErrorKind::InvalidData)
}

fn broke_protocol(error: &hyper::Error) -> bool {
    h2_error(error).is_some_and(|h2| h2.reason() == Some(h2::Reason::PROTOCOL_ERROR))
}

fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    error.source()?.downcast_ref()
}
