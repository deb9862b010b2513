//! `[auth.external.NAME]`: another service decides.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderName, Method, Uri,
    header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, EXPECT, HOST},
};

use super::{Carried, identity::identity_name};
use crate::config::{
    decode::{
        Choice, Count, Flag, Format, Node, Off, OneOrList, OptionOf, OrWord, Problem, Reader, Show,
        TableNode, Time, Word, quoted, table,
    },
    diagnostic::Finding,
    header::{FieldName, is_hop_by_hop},
};

/// `[auth.external.NAME]`, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct External {
    /// The full name: `external.sso`.
    pub name: Arc<str>,
    /// `url`: what is asked.
    pub url: Uri,
    /// `method`: of the question.
    pub method: Method,
    /// `request_headers`: the client's headers that the service gets.
    pub request_headers: Vec<HeaderName>,
    /// `send`: what else the service is told about the request.
    pub send: Vec<Fact>,
    /// `forward_headers`: headers of a 2xx answer that the upstream gets.
    pub forward_headers: Vec<HeaderName>,
    /// `subject_header`: the header of a 2xx answer that says who the caller is.
    pub subject_header: Option<HeaderName>,
    /// `roles_header`: the header of a 2xx answer with the caller's roles.
    pub roles_header: Option<HeaderName>,
    /// `pass_redirects`: whether the client gets the service's redirects.
    pub pass_redirects: bool,
    /// `timeout`: of the question.
    pub timeout: Duration,
    /// `remember`: how long a 2xx answer is good for the same question.
    pub remember: Option<Duration>,
    /// `max_in_flight`: questions at the same time; more are not asked.
    pub max_in_flight: usize,
}

impl External {
    /// The client's headers that the service gets and that may hold a credential: all but those in
    /// which browsers and programs say what they are and what they want.
    pub fn credential_headers(&self) -> impl Iterator<Item = &HeaderName> {
        let plain = |name: &HeaderName| PLAIN.contains(&name.as_str());
        self.request_headers.iter().filter(move |name| !plain(name))
    }
}

/// What the service is told about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// `X-Forwarded-Method`.
    Method,
    /// `X-Forwarded-Uri`: path and query.
    Uri,
    /// `X-Forwarded-Host`, and `X-Forwarded-Proto`.
    Host,
    /// `X-Forwarded-For`: the client's address alone.
    ClientIp,
}

impl Word for Fact {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("method", Self::Method),
        ("uri", Self::Uri),
        ("host", Self::Host),
        ("client_ip", Self::ClientIp),
    ];
}

table! {
    /// `[auth.external.NAME]`: another service decides. It gets the request's method, path and host
    /// and some of its headers; 2xx lets the request through, 401 and 403 are passed on to the
    /// client, and anything else refuses it with 503.
    #[derive(Clone, Debug)]
    pub(in crate::config) struct ExternalKeys ["auth.external.NAME", check check_external] {
        /// `url`: what is asked, over `http://` or `https://`.
        url: Option<Uri> => OptionOf<ServiceUrl> = None; "needed",
        /// `method`: of the question, which has no body.
        method: Asked => Choice<Asked> = Asked::Get,
        /// `request_headers`: the client's headers that the service gets.
        request_headers: Vec<HeaderName> => OneOrList<Sent> = vec![AUTHORIZATION, COOKIE],
        /// `send`: what else it is told about the request, in `X-Forwarded-Method`, `-Uri`, `-Host`
        /// with `-Proto`, and `-For`.
        send: Vec<Fact> => OneOrList<Choice<Fact>> = vec![Fact::Method, Fact::Uri, Fact::Host, Fact::ClientIp],
        /// `forward_headers`: headers of the service's answer that the upstream gets. What clients
        /// send under these names is taken out on every route.
        forward_headers: Vec<HeaderName> => OneOrList<Identity> = Vec::new(); "none",
        /// `subject_header`: the header of the service's answer that says who the caller is; it must
        /// be there then. Without this key callers are told apart by what they sent.
        subject_header: Option<HeaderName> => OptionOf<FieldName> = None; "none",
        /// `roles_header`: the header of the service's answer with the caller's roles, with commas
        /// between them.
        roles_header: Option<HeaderName> => OptionOf<FieldName> = None; "none",
        /// `pass_redirects`: whether the client gets the service's redirects, to a login page, and
        /// the cookies that come with them.
        pass_redirects: bool => Flag = false,
        /// `timeout`: how long the service may take.
        timeout: Duration => Time = Duration::from_secs(2),
        /// `remember`: how long a 2xx answer is good for requests of which the service would be told
        /// exactly the same.
        remember: Option<Duration> => OrWord<Time, Off> = None,
        /// `max_in_flight`: questions at the same time; a request over that gets 503.
        max_in_flight: usize => Count<usize, 1, 1_000_000> = 256,
    }
}

fn check_external(external: &ExternalKeys, table: TableNode<'_>, reader: &mut Reader<'_>) {
    if !table.has("url") {
        let message = format!("`[auth.external.{}]` has no `url`", table.node.name);
        let help = "write `url = \"http://127.0.0.1:4180/auth\"`";
        reader.report(Finding::error(table.node.key, message).help(help));
    }
    let is_told = !external.request_headers.is_empty() || !external.send.is_empty();
    if !is_told {
        let message = "the service is told nothing: all requests would be one to it";
        let place = table.value_place("send", reader);
        reader.report(
            Finding::error(place, message).help("leave `request_headers` or `send` as it is"),
        );
    }
}

impl ExternalKeys {
    /// The client's headers that the service gets.
    pub(super) fn told_headers(&self) -> &[HeaderName] {
        &self.request_headers
    }

    /// What the service's answer can say of a caller.
    pub(super) fn carried(&self) -> Carried {
        Carried {
            roles: self.roles_header.is_some(),
            ..Carried::default()
        }
    }

    /// The checked table; `None` when it has been found wrong.
    pub(super) fn named(self, name: Arc<str>) -> Option<External> {
        Some(External {
            name,
            url: self.url?,
            method: self.method.into(),
            request_headers: self.request_headers,
            send: self.send,
            forward_headers: self.forward_headers,
            subject_header: self.subject_header,
            roles_header: self.roles_header,
            pass_redirects: self.pass_redirects,
            timeout: self.timeout,
            remember: self.remember,
            max_in_flight: self.max_in_flight,
        })
    }
}

/// The method of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Get,
    Head,
    Post,
}

impl Word for Asked {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("GET", Self::Get),
        ("HEAD", Self::Head),
        ("POST", Self::Post),
    ];
}

impl From<Asked> for Method {
    fn from(asked: Asked) -> Self {
        match asked {
            Asked::Get => Self::GET,
            Asked::Head => Self::HEAD,
            Asked::Post => Self::POST,
        }
    }
}

struct ServiceUrl;

impl Format for ServiceUrl {
    type Value = Uri;

    fn expected() -> String {
        "a URL such as \"http://127.0.0.1:4180/auth\"".to_owned()
    }

    fn example() -> String {
        "\"http://127.0.0.1:4180/auth\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Uri> {
        reader.parse(node, &Self::expected(), |text| {
            let uri: Uri = text.parse().map_err(|_| Problem::plain())?;
            let authority = uri.authority().ok_or_else(Problem::plain)?;
            if authority.as_str().contains('@') {
                return Err(Problem::what(
                    "the URL of a service has no user or password",
                ));
            }
            match uri.scheme_str() {
                Some("http" | "https") => Ok(uri),
                _ => Err(Problem::plain().help("begin with `http://` or `https://`")),
            }
        })
    }
}

/// A header of the client that the service may get.
struct Sent;

impl Format for Sent {
    type Value = HeaderName;

    fn expected() -> String {
        FieldName::expected()
    }

    fn example() -> String {
        "\"x-api-key\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<HeaderName> {
        let name = FieldName::read(node, reader)?;
        let text = name.as_str();
        let ours = is_hop_by_hop(&name)
            || [HOST, CONTENT_LENGTH, EXPECT].contains(&name)
            || text.starts_with("x-forwarded-");
        if ours {
            let message = format!("`{text}`: the gateway sets it itself");
            let finding = Finding::error(node.place, message);
            reader.report(finding.help("`send` says what the service is told about the request"));
            return None;
        }
        Some(name)
    }
}

impl Show for Sent {
    fn show(value: &HeaderName) -> String {
        quoted(value.as_str())
    }
}

/// A header that the gateway alone sets for the upstream.
struct Identity;

impl Format for Identity {
    type Value = HeaderName;

    fn expected() -> String {
        FieldName::expected()
    }

    fn example() -> String {
        "\"x-user-id\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<HeaderName> {
        let name = FieldName::read(node, reader)?;
        identity_name(name, node.place, reader)
    }
}

const PLAIN: [&str; 17] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "content-type",
    "dnt",
    "origin",
    "referer",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "traceparent",
    "user-agent",
    "x-request-id",
    "x-requested-with",
];
