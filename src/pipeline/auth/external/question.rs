//! What a service of external auth is told about a request.
//!
//! One list of facts makes the question and the key that its answer is remembered by, so that they
//! can't come apart.

use std::{hash::BuildHasher, io::Write, sync::Arc};

use bytes::Bytes;
use foldhash::quality::RandomState;
use http::{HeaderMap, HeaderName, HeaderValue, header::COOKIE};
use sha2::{Digest, Sha256};

use crate::{
    config::{External, Fact},
    exchange::{
        Context, Request,
        fields::{
            X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, X_REQUEST_ID, joined_cookies,
        },
    },
};

/// Makes questions out of requests.
pub(super) struct Questioner {
    config: External,
    /// Of this process: what callers sent must not be guessed from their names in a log.
    hasher: [RandomState; 2],
}

impl Questioner {
    pub(super) fn new(config: &External) -> Self {
        Self {
            config: config.clone(),
            hasher: [RandomState::default(), RandomState::default()],
        }
    }

    /// The question; `None` when a fact can't stand in a header.
    pub(super) fn question(
        &self,
        request: &Request,
        context: &Context,
    ) -> Option<http::Request<Bytes>> {
        let mut headers = HeaderMap::new();
        let mut whole = true;
        self.tell(
            request,
            context,
            &mut |name, value| match HeaderValue::from_bytes(value) {
                Ok(value) => whole &= headers.try_append(name.clone(), value).is_ok(),
                Err(_) => whole = false,
            },
        );
        // For the service's log; it is no fact, and no two requests have the same.
        headers.insert(X_REQUEST_ID, context.id.header().clone());
        let mut question = http::Request::new(Bytes::new());
        *question.method_mut() = self.config.method.clone();
        *question.uri_mut() = self.config.url.clone();
        *question.headers_mut() = headers;
        whole.then_some(question)
    }

    /// What stands for everything that the service is told: nobody can find other facts with the
    /// same key.
    pub(super) fn key(&self, request: &Request, context: &Context) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut add = |name: &HeaderName, value: &[u8]| {
            // With their lengths, or the end of one could pass for the beginning of the next.
            for part in [name.as_str().as_bytes(), value] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        };
        self.tell(request, context, &mut add);
        // The answer names the caller by it: it is nobody else's, whatever the service is told.
        if self.config.subject_header.is_none() && self.sends_no_header(request) {
            tell_address(context, &mut add);
        }
        hash.finalize().into()
    }

    /// Who calls as far as the request tells, for services that do not say: a hash of the headers
    /// that the service is told, or else the client's address.
    pub(super) fn caller(&self, request: &Request, context: &Context) -> Arc<str> {
        if self.sends_no_header(request) {
            return context.client.to_string().into();
        }
        let mut sent = Vec::new();
        self.tell_headers(request, &mut |name, value| {
            sent.push((name.clone(), value.to_vec()));
        });
        let [one, two] = &self.hasher;
        format!("{:016x}{:016x}", one.hash_one(&sent), two.hash_one(&sent)).into()
    }

    fn tell(
        &self,
        request: &Request,
        context: &Context,
        tell: &mut impl FnMut(&HeaderName, &[u8]),
    ) {
        self.tell_headers(request, tell);
        for fact in &self.config.send {
            match fact {
                Fact::Method => {
                    tell(&X_FORWARDED_METHOD, context.head.method.as_str().as_bytes());
                }
                // The normal form: the upstream gets the same, so the service must judge the same.
                Fact::Uri => tell(&X_FORWARDED_URI, context.target().as_bytes()),
                Fact::Host => {
                    let host = context
                        .forwarded_host
                        .as_ref()
                        .or(context.head.host.as_ref());
                    tell(&X_FORWARDED_HOST, host.map_or(&[], HeaderValue::as_bytes));
                    tell(&X_FORWARDED_PROTO, context.scheme.as_bytes());
                }
                Fact::ClientIp => tell_address(context, tell),
            }
        }
    }

    /// Whether the service gets no header of the client.
    fn sends_no_header(&self, request: &Request) -> bool {
        let mut names = self.config.request_headers.iter();
        !names.any(|name| request.headers().contains_key(name))
    }

    fn tell_headers(&self, request: &Request, tell: &mut impl FnMut(&HeaderName, &[u8])) {
        for name in &self.config.request_headers {
            if *name == COOKIE {
                // As the upstream gets them: both must read the same.
                if let Some(cookies) = joined_cookies(request.headers()) {
                    tell(name, cookies.as_bytes());
                }
                continue;
            }
            for value in request.headers().get_all(name) {
                tell(name, value.as_bytes());
            }
        }
    }
}

fn tell_address(context: &Context, tell: &mut impl FnMut(&HeaderName, &[u8])) {
    let mut buffer = [0; LONGEST_ADDRESS];
    let mut rest = &mut buffer[..];
    // No address is longer than the buffer.
    let _ = write!(rest, "{}", context.client);
    let length = LONGEST_ADDRESS - rest.len();
    tell(&X_FORWARDED_FOR, &buffer[..length]);
}

const X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
/// An IPv6 address with an IPv4 one at its end.
const LONGEST_ADDRESS: usize = 45;
