//! What a request asks of the cache.

use http::{
    HeaderMap, Method,
    header::{
        AUTHORIZATION, COOKIE, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE,
        RANGE,
    },
};

use super::{Options, RequestDirectives};

/// A request's head, as the cache looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// The method.
    pub method: &'a Method,
    /// The header fields, after edits by the route and before those of forwarding.
    pub headers: &'a HeaderMap,
    /// Whether a body comes with it.
    pub has_body: bool,
    /// Whether it asks to switch protocols.
    pub upgrade: bool,
    /// Whether authentication knows the caller, by whatever credential.
    pub principal: bool,
    /// Whether it has fields that a server may read as others (`accept_language`), and that tell no
    /// stored answers apart.
    pub odd_names: bool,
}

/// Why a request is passed by the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bypass {
    /// A safe method whose answers are not stored.
    Method,
    /// A body with a GET or HEAD, which has no meaning (RFC 9110 9.3.1) but may have one to the
    /// upstream; the key does not hold it.
    Body,
    /// A switch of protocols.
    Upgrade,
    /// `If-Match` or `If-Unmodified-Since`, which are for the origin (RFC 9111 4.3.2).
    Precondition,
    /// A field that the upstream may read as one that is in the key, in `Vary` or a condition.
    OddNames,
}

impl Bypass {
    /// One word for `Cache-Status` and the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Body => "request-body",
            Self::Upgrade => "upgrade",
            Self::Precondition => "precondition",
            Self::OddNames => "odd-names",
        }
    }
}

/// What is to be done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// GET: looked up and stored.
    Get,
    /// HEAD: answered from a stored GET, else forwarded; nothing is stored (RFC 9110 9.3.2).
    Head,
    /// Forwarded, and its success [invalidates](super::invalidated) (RFC 9111 4.4). The answer of
    /// a POST may still be [stored](super::judge()).
    Unsafe,
    /// Forwarded, and nothing else.
    Bypass(Bypass),
}

/// What a request asks of the cache, read once.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// What is to be done with it.
    pub class: Class,
    /// What it wants, where the rule lets clients want something; nothing otherwise.
    pub wants: RequestDirectives,
    /// Whether it is a plain POST, whose answer may be stored for later GETs (RFC 9110 9.3.3).
    pub post: bool,
    /// Whether it has `Authorization`.
    pub authorization: bool,
    /// Whether authentication knows the caller.
    pub principal: bool,
    /// Whether it has cookies.
    pub cookie: bool,
    /// Whether it has `If-None-Match` or `If-Modified-Since`.
    pub conditional: bool,
    /// Whether it is a GET with `Range`; the field means nothing with another method (RFC 9110 14.2).
    pub range: bool,
}

impl Asked {
    /// Reads a request.
    #[must_use]
    pub fn read(incoming: &Incoming<'_>, options: &Options) -> Self {
        let headers = incoming.headers;
        let class = class(incoming);
        let wants = match class {
            Class::Get | Class::Head if options.request_directives => {
                RequestDirectives::read(headers)
            }
            _ => RequestDirectives::default(),
        };
        Self {
            class,
            wants,
            // What switches protocols is no answer to be kept, nor what nobody can tell apart.
            post: *incoming.method == Method::POST && !incoming.upgrade && !incoming.odd_names,
            authorization: headers.contains_key(AUTHORIZATION),
            principal: incoming.principal,
            cookie: headers.contains_key(COOKIE),
            conditional: headers.contains_key(IF_NONE_MATCH)
                || headers.contains_key(IF_MODIFIED_SINCE),
            range: class == Class::Get && headers.contains_key(RANGE),
        }
    }

    /// Whether the store is asked for an answer.
    #[must_use]
    pub fn looks_up(&self) -> bool {
        matches!(self.class, Class::Get | Class::Head)
    }

    /// Whether a fill may be made for this request. Others could not read along an answer that depends
    /// on its conditions, so the fill goes without them: they are applied to what comes.
    #[must_use]
    pub fn may_lead(&self) -> bool {
        self.class == Class::Get && !self.range && !self.wants.no_store
    }

    /// Whether the fill of another may be read along with, and none is made: the whole may be much more
    /// than was asked for.
    #[must_use]
    pub fn may_follow(&self) -> bool {
        (self.class == Class::Head || self.range) && !self.wants.no_store
    }

    /// Whether the caller is known to somebody: to us, or by `Authorization` to the upstream.
    #[must_use]
    pub fn is_known_caller(&self) -> bool {
        self.principal || self.authorization
    }

    /// Whether something in it may name somebody, so that its answer may be nobody else's.
    #[must_use]
    pub fn names_somebody(&self) -> bool {
        self.is_known_caller() || self.cookie
    }
}

fn class(incoming: &Incoming<'_>) -> Class {
    let class = match *incoming.method {
        Method::GET => Class::Get,
        Method::HEAD => Class::Head,
        _ if is_safe(incoming.method) => return Class::Bypass(Bypass::Method),
        // A method that we do not know may be unsafe (RFC 9111 4.4), and changes what it changes
        // whether or not it would switch protocols too.
        _ => return Class::Unsafe,
    };
    if incoming.upgrade {
        return Class::Bypass(Bypass::Upgrade);
    }
    if incoming.has_body {
        return Class::Bypass(Bypass::Body);
    }
    let headers = incoming.headers;
    if headers.contains_key(IF_MATCH) || headers.contains_key(IF_UNMODIFIED_SINCE) {
        return Class::Bypass(Bypass::Precondition);
    }
    if incoming.odd_names {
        return Class::Bypass(Bypass::OddNames);
    }
    class
}

/// The safe methods of IANA's registry.
#[must_use]
pub fn is_safe(method: &Method) -> bool {
    matches!(
        method.as_str(),
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "QUERY" | "PROPFIND" | "REPORT" | "SEARCH"
    )
}
