//! `origins`: pages of which origins may act with the credentials that a browser sends by itself.
//!
//! A browser adds cookies, and a password that it was told once, to whatever any page makes it send.
//! So a page of somebody else can act as its reader: change things (cross-site request forgery), and
//! talk over a WebSocket (cross-site WebSocket hijacking), which CORS does not hinder. Unsafe
//! methods and upgrades therefore come from pages that the route knows, or from no browser at all.
//!
//! It stands before authentication: what it refuses costs nothing and tells nothing. What it reads is
//! the browser's word, which a page can't change: `Sec-Fetch-Site` (Fetch Metadata), and `Origin`
//! where a browser does not send that. A request with neither is not a browser's: those that send
//! cookies send `Origin` with unsafe methods and with WebSocket handshakes (RFC 6455 10.2), so who
//! has stolen nothing has nothing to gain there.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{AUTHORIZATION, COOKIE},
};
use tower::Layer;

use crate::{
    config::{OriginRule, OriginSet, Route},
    exchange::{BoxFuture, Context, Handle, Reason, Rejection, Request, Response, RouteService},
};

/// Puts a route's rule on origins around a service.
#[derive(Clone, Debug)]
pub struct OriginsLayer(Arc<Rule>);

#[derive(Debug)]
struct Rule {
    same_host: bool,
    others: OriginSet,
    only_credentials: bool,
}

impl OriginsLayer {
    /// A route's rule; `None` when it has none, or checks nothing.
    #[must_use]
    pub fn from_config(route: &Route) -> Option<Self> {
        let rule = route.origins.as_ref().filter(|rule| !rule.any)?;
        Some(Self(Arc::new(Rule::new(rule))))
    }
}

impl Layer<RouteService> for OriginsLayer {
    type Service = RouteService;

    fn layer(&self, inner: RouteService) -> RouteService {
        let rule = Arc::clone(&self.0);
        RouteService::new(Origins { rule, inner })
    }
}

struct Origins {
    rule: Arc<Rule>,
    inner: RouteService,
}

impl Handle for Origins {
    fn handle(&self, request: Request, context: &Arc<Context>) -> BoxFuture<Response> {
        let guarded = context.head.upgrade.is_some() || !is_safe(request.method());
        if !guarded || self.rule.admits(request.headers(), &Asked::of(context)) {
            return self.inner.handle(request, context);
        }
        context.explain("the page that sent it is of an origin that the route does not know");
        let refusal = Rejection::new(Reason::OriginDenied).respond(context);
        Box::pin(std::future::ready(refusal))
    }
}

/// What a page's origin is compared with.
struct Asked<'c> {
    origin: Option<&'c HeaderValue>,
    /// The host with its port, as the client asked for it.
    host: Option<&'c HeaderValue>,
    /// Whether the client's side is known to be encrypted.
    secure: bool,
}

impl<'c> Asked<'c> {
    fn of(context: &'c Context) -> Self {
        let forwarded = context.forwarded_host.as_ref();
        Self {
            origin: context.head.origin.as_ref(),
            host: forwarded.or(context.head.host.as_ref()),
            secure: context.scheme == "https",
        }
    }
}

impl Rule {
    fn new(rule: &OriginRule) -> Self {
        Self {
            same_host: rule.same_host,
            others: OriginSet::new(&rule.others),
            only_credentials: rule.only_credentials,
        }
    }

    fn admits(&self, headers: &HeaderMap, asked: &Asked<'_>) -> bool {
        if self.only_credentials && !has_credentials(headers) {
            return true;
        }
        if let Some(origin) = asked.origin
            && self.others.contains(origin.as_bytes())
        {
            return true;
        }
        match (headers.get(SEC_FETCH_SITE), asked.origin) {
            (None, None) => true,
            // `none`: the reader did it, no page.
            (Some(site), _) => self.same_host && (site == "same-origin" || site == "none"),
            (None, Some(origin)) => self.same_host && is_same_host(origin, asked),
        }
    }
}

/// RFC 9110 9.2.1.
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Whether there is something that a browser may have added by itself.
fn has_credentials(headers: &HeaderMap) -> bool {
    let mut shown = headers.get_all(AUTHORIZATION).iter();
    headers.contains_key(COOKIE) || shown.any(is_sent_unasked)
}

/// Whether browsers send a credential of such a scheme without the doing of a page: what they were told
/// once, or who is logged in at the machine.
fn is_sent_unasked(credential: &HeaderValue) -> bool {
    let mut words = credential.as_bytes().split(|byte| *byte == b' ');
    let scheme = words.next().unwrap_or_default();
    UNASKED
        .iter()
        .any(|unasked| scheme.eq_ignore_ascii_case(unasked))
}

/// Whether an origin is the host that is asked, with its port.
///
/// Its scheme is compared where ours is known to be `https`; behind a proxy that ends TLS and tells
/// nobody both look like `http`.
fn is_same_host(origin: &HeaderValue, asked: &Asked<'_>) -> bool {
    let parts = origin.to_str().ok().and_then(|text| text.split_once("://"));
    let (Some((scheme, authority)), Some(host)) = (parts, asked.host) else {
        return false;
    };
    let default: &[u8] = match scheme {
        "https" => b":443",
        "http" if !asked.secure => b":80",
        _ => return false,
    };
    let plain = |text| without_port(text, default);
    plain(authority.as_bytes()).eq_ignore_ascii_case(plain(host.as_bytes()))
}

fn without_port<'t>(authority: &'t [u8], default: &[u8]) -> &'t [u8] {
    authority.strip_suffix(default).unwrap_or(authority)
}

/// A service of external auth may ask for any of them; the gateway itself knows the first.
const UNASKED: [&[u8]; 4] = [b"basic", b"digest", b"negotiate", b"ntlm"];
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;

    const COOKIES: (&str, &str) = ("cookie", "session=1");

    fn rule(same_host: bool, others: &[&str], only_credentials: bool) -> Rule {
        let exact = |text: &&str| Origin::Exact((*text).into());
        Rule::new(&OriginRule {
            any: false,
            same_host,
            others: others.iter().map(exact).collect(),
            only_credentials,
        })
    }

    fn admits(rule: &Rule, lines: &[(&'static str, &'static str)], secure: bool) -> bool {
        let lines = lines.iter();
        let headers: HeaderMap = lines
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect();
        let asked = Asked {
            origin: headers.get("origin"),
            host: headers.get("host"),
            secure,
        };
        rule.admits(&headers, &asked)
    }

    /// Whether a page of an origin passes at a host by the default rule.
    fn passes(origin: &'static str, host: &'static str, secure: bool) -> bool {
        let rule = rule(true, &[], true);
        admits(
            &rule,
            &[COOKIES, ("origin", origin), ("host", host)],
            secure,
        )
    }

    #[test]
    fn a_page_of_the_host_that_is_asked_passes() {
        for (origin, host) in [
            ("https://a.test", "a.test"),
            ("http://a.test", "a.test"),
            ("https://a.test:8443", "a.test:8443"),
            ("https://a.test", "a.test:443"),
            ("https://a.test", "A.test"),
            ("https://[2001:db8::1]:81", "[2001:db8::1]:81"),
        ] {
            assert!(passes(origin, host, false), "{origin} {host}");
        }
    }

    #[test]
    fn a_page_of_another_origin_does_not_pass() {
        for (origin, host) in [
            ("https://evil.test", "a.test"),
            ("https://a.test.evil.test", "a.test"),
            ("https://sub.a.test", "a.test"),
            ("https://a.test:444", "a.test"),
            ("https://a.test", "a.test:444"),
            ("https://a.test:80", "a.test"),
            ("null", "a.test"),
            ("", "a.test"),
            ("a.test", "a.test"),
            ("ftp://a.test", "a.test"),
        ] {
            assert!(!passes(origin, host, false), "{origin} {host}");
        }
        assert!(
            !passes("http://a.test", "a.test", true),
            "whoever is on the wire wrote that page"
        );
        assert!(passes("https://a.test", "a.test", true));
    }

    #[test]
    fn what_the_browser_says_of_the_site_goes_before_the_host() {
        let rule = rule(true, &["https://app.test"], true);
        let with = |site, origin| {
            admits(
                &rule,
                &[
                    COOKIES,
                    ("sec-fetch-site", site),
                    ("origin", origin),
                    ("host", "inner"),
                ],
                true,
            )
        };
        assert!(
            with("same-origin", "https://a.test"),
            "a proxy may change Host"
        );
        assert!(with("none", "https://a.test"));
        assert!(!with("same-site", "https://inner") && !with("cross-site", "https://inner"));
        assert!(with("cross-site", "https://app.test"), "the route knows it");
    }

    #[test]
    fn who_is_no_browser_or_has_no_credential_passes() {
        let default = rule(true, &[], true);
        let evil = ("origin", "https://evil.test");
        assert!(
            admits(&default, &[COOKIES, ("host", "a.test")], true),
            "no browser"
        );
        assert!(admits(
            &default,
            &[evil, ("authorization", "Bearer x")],
            true
        ));
        for unasked in [
            "bAsic eDp5",
            "Digest username=\"a\"",
            "Negotiate YII=",
            "NTLM TlR=",
        ] {
            let lines = [evil, ("authorization", unasked)];
            assert!(!admits(&default, &lines, true), "{unasked}");
        }
        let own = rule(true, &[], false);
        assert!(
            !admits(&own, &[evil], true),
            "a rule of the route's own is for all"
        );
    }

    #[test]
    fn a_list_without_same_host_is_that_list() {
        let rule = rule(false, &["https://app.test"], false);
        let host = ("host", "a.test");
        assert!(admits(&rule, &[host, ("origin", "https://app.test")], true));
        assert!(!admits(&rule, &[host, ("origin", "https://a.test")], true));
        assert!(!admits(
            &rule,
            &[host, ("sec-fetch-site", "same-origin")],
            true
        ));
    }
}
