//! An upstream that answers by a policy which the URL names, when it may, and tells its fetches.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use tokio::{sync::Semaphore, time::sleep};
use tollgate::{
    exchange::Clock,
    pipeline::cache::policy::{Moment, format_http_date},
};

use crate::support::{BoxBody, Server, answer};

/// What an upstream says of a URL's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// They are for all, and one.
    Fresh,
    /// They are for all, and vary by `X-Kind`.
    Varying,
    /// They are for all, and say that they vary by `X-Kind` and others to those alone who send them.
    VaryingIfSent,
    /// Each request has to ask whether what is kept is right still.
    NoCache,
    /// They are stale when they come, which comes to the same.
    StaleAtOnce,
    /// They are private to who brings cookies.
    PrivateToCookies,
    /// They are private to who brings `Authorization`.
    PrivateToCallers,
    /// They are one, but that those to a bad `X-Kind` set a cookie.
    SettingCookies,
    /// They vary by `X-Kind`, and those to a bad one are private.
    PrivateVariant,
    /// A bad `X-Kind` is a 400.
    FindingFault,
}

/// An answer without what all of them have.
struct Said {
    status: u16,
    control: &'static str,
    /// Whether it is the one that is for all who send no field of the attacker's.
    is_for_all: bool,
    more: Option<(&'static str, String)>,
}

impl Policy {
    pub(super) const ALL: [Self; 10] = [
        Self::Fresh,
        Self::Varying,
        Self::VaryingIfSent,
        Self::NoCache,
        Self::StaleAtOnce,
        Self::PrivateToCookies,
        Self::PrivateToCallers,
        Self::SettingCookies,
        Self::PrivateVariant,
        Self::FindingFault,
    ];

    /// Whether one answer of the upstream may be for several requests.
    pub(super) fn is_for_several(self) -> bool {
        !matches!(self, Self::NoCache | Self::StaleAtOnce)
    }

    /// A part of a path that says it.
    pub(super) fn name(self, is_large: bool) -> String {
        let size = if is_large { "large" } else { "small" };
        format!("{self:?}-{size}")
    }

    fn of_path(path: &str) -> (Self, bool) {
        let named = |policy: &Self| {
            let mut sizes = [false, true].into_iter();
            let named = sizes.find(|size| path.contains(&policy.name(*size)));
            named.map(|is_large| (*policy, is_large))
        };
        Self::ALL.iter().find_map(named).expect("it names one")
    }

    fn says(self, request: &HeaderMap) -> Said {
        let is_sent = |name: &str| request.contains_key(name);
        let mut kinds = request.get_all("x-kind").iter();
        let is_bad = kinds.any(|kind| kind == "bad");
        let said = |is_for_all, control| Said {
            status: 200,
            control,
            is_for_all,
            more: None,
        };
        let fresh = |is_for_all| said(is_for_all, "public, max-age=60");
        let private_if = |is_private| match is_private {
            true => said(false, "private"),
            false => fresh(true),
        };
        match self {
            Self::Fresh => fresh(true),
            Self::NoCache => said(true, "no-cache"),
            Self::StaleAtOnce => said(true, "max-age=0"),
            Self::PrivateToCookies => private_if(is_sent("cookie")),
            Self::PrivateToCallers => private_if(is_sent("authorization")),
            Self::Varying => Said {
                more: Some(("vary", "x-kind".to_owned())),
                ..fresh(!is_sent("x-kind"))
            },
            Self::VaryingIfSent => {
                let sent: Vec<_> = IF_SENT.into_iter().filter(|name| is_sent(name)).collect();
                let vary = (!sent.is_empty()).then(|| ("vary", sent.join(", ")));
                Said {
                    more: vary,
                    ..fresh(sent.is_empty())
                }
            }
            Self::PrivateVariant => Said {
                more: Some(("vary", "x-kind".to_owned())),
                is_for_all: !is_sent("x-kind"),
                ..private_if(is_bad)
            },
            Self::SettingCookies if is_bad => Said {
                more: Some(("set-cookie", "session=new".to_owned())),
                ..fresh(false)
            },
            Self::FindingFault if is_bad => Said {
                status: 400,
                ..said(false, "")
            },
            Self::SettingCookies | Self::FindingFault => fresh(true),
        }
    }

    fn answer(self, request: &HeaderMap, is_large: bool) -> Response<BoxBody> {
        let said = self.says(request);
        if said.status != 200 {
            return answer(said.status, &[], "");
        }
        let (whose, etag) = match said.is_for_all {
            true => ("all", "\"all\""),
            false => ("some", "\"some\""),
        };
        let mut fields = vec![("cache-control", said.control), ("etag", etag)];
        let more = said.more.as_ref();
        fields.extend(more.map(|(name, value)| (*name, value.as_str())));
        // Of several conditions any may be the one.
        let mut conditions = request.get_all("if-none-match").iter();
        if conditions.any(|condition| condition == etag) {
            return answer(304, &fields, "");
        }
        answer(200, &fields, body(whose, is_large))
    }
}

/// What the crowd is to get.
pub(super) fn body_for_all(is_large: bool) -> String {
    body("all", is_large)
}

fn body(whose: &str, is_large: bool) -> String {
    let length = if is_large { LARGE } else { 10 };
    format!("{whose} {}", "x".repeat(length))
}

/// What the upstream was asked for.
#[derive(Clone, Debug)]
pub(super) struct Fetch {
    path: String,
    /// Who the request that leads it says to be.
    pub(super) who: String,
    began: Instant,
    ended: Option<Instant>,
}

/// The upstream.
pub(super) struct Upstream {
    server: Server,
    log: Arc<Log>,
}

struct Log {
    fetches: Mutex<Vec<Fetch>>,
    /// It answers as long as there are permits.
    gate: Semaphore,
}

/// A fetch that is under way, also one that nobody reads to its end.
struct UnderWay {
    log: Arc<Log>,
    at: usize,
}

impl Upstream {
    pub(super) async fn start(clock: &Clock) -> Self {
        let log = Arc::new(Log {
            fetches: Mutex::default(),
            gate: Semaphore::new(MANY),
        });
        let (kept, clock) = (Arc::clone(&log), clock.clone());
        let server = Server::http1(move |request: Request<Incoming>| {
            let under_way = UnderWay::begin(&kept, &request);
            let (policy, is_large) = Policy::of_path(request.uri().path());
            let mut answer = policy.answer(request.headers(), is_large);
            let date = format_http_date(Moment::from(clock.wall()));
            answer.headers_mut().insert("date", date);
            let is_before = request
                .headers()
                .get("x-who")
                .is_some_and(|who| who == "before");
            let takes = if is_before { BRIEF } else { TAKES };
            async move {
                let gate = &under_way.log.gate;
                gate.acquire().await.expect("it is open").forget();
                sleep(takes).await;
                drop(under_way);
                answer
            }
        })
        .await;
        Self { server, log }
    }

    pub(super) fn url(&self) -> String {
        self.server.url()
    }

    /// Has it answer nobody.
    pub(super) fn hold(&self) {
        self.log.gate.forget_permits(MANY);
    }

    /// Has it answer again, if it does not.
    pub(super) fn let_go(&self) {
        self.hold();
        self.log.gate.add_permits(MANY);
    }

    /// Whether it is asked for nothing.
    pub(super) fn is_idle(&self) -> bool {
        let fetches = self.log.locked();
        fetches.iter().all(|fetch| fetch.ended.is_some())
    }

    /// What it was asked for under a path, and had not answered by then.
    pub(super) fn fetches(&self, path: &str, by: Instant) -> Vec<Fetch> {
        let is_meant = |fetch: &&Fetch| {
            let is_later = fetch.ended.is_none_or(|ended| ended > by);
            fetch.path == path && is_later
        };
        self.log.locked().iter().filter(is_meant).cloned().collect()
    }
}

impl Log {
    fn locked(&self) -> MutexGuard<'_, Vec<Fetch>> {
        self.fetches.lock().expect("no panic")
    }
}

impl UnderWay {
    fn begin(log: &Arc<Log>, request: &Request<Incoming>) -> Self {
        let who = request.headers().get("x-who");
        let who = who.and_then(|who| who.to_str().ok()).unwrap_or_default();
        let mut fetches = log.locked();
        fetches.push(Fetch {
            path: request.uri().path().to_owned(),
            who: who.to_owned(),
            began: Instant::now(),
            ended: None,
        });
        Self {
            log: Arc::clone(log),
            at: fetches.len() - 1,
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.log.locked()[self.at].ended = Some(Instant::now());
    }
}

/// How many of them there are at most of which each began when the last had ended.
pub(super) fn in_series<'a>(fetches: impl Iterator<Item = &'a Fetch>) -> usize {
    let ended = fetches.filter_map(|fetch| Some((fetch.ended?, fetch.began)));
    let mut ended: Vec<_> = ended.collect();
    ended.sort_unstable();
    let (mut count, mut last) = (0, None);
    for (end, began) in ended {
        if last.is_none_or(|last| began >= last) {
            (count, last) = (count + 1, Some(end));
        }
    }
    count
}

/// How long an answer takes: one to a crowd long enough that what a machine takes hardly counts beside it.
const TAKES: Duration = Duration::from_millis(20);
/// The same where nobody counts, and long enough that a client can leave before.
const BRIEF: Duration = Duration::from_millis(8);
const MANY: usize = 1_000_000;
const LARGE: usize = 100 << 10;

/// What some name in `Vary` to those alone who send it.
pub(super) const IF_SENT: [&str; 4] = ["x-kind", "x-other-1", "x-other-2", "x-other-3"];
