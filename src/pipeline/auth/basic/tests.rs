//! What is hashed, what is remembered, and what happens when there is too much to hash.

use std::{
    net::SocketAddr,
    sync::mpsc,
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{Method as HttpMethod, Uri, Version};
use tempfile::TempDir;
use tokio::{runtime::Handle, task::JoinHandle};

use super::*;
use crate::exchange::{
    Body, Clock, Connection, ContextParts, FileWatch, Peer, Protocol, RequestHead, RequestId,
    TraceContext, WatchedFile,
};

struct Staff {
    method: BasicMethod,
    pool: Blocking,
    clock: Clock,
    _folder: TempDir,
}

impl Staff {
    /// With the user `alice`, whose password is `secret`, and a pool of one thread without a queue.
    fn new(remember: Option<Duration>) -> Self {
        let folder = TempDir::new().unwrap();
        let config = Basic {
            name: "basic.staff".into(),
            users_file: folder.path().join("users"),
            realm: "Staff".into(),
            roles: Vec::new(),
            remember,
            forward_credentials: true,
        };
        let hash = bcrypt::hash("secret", 5).unwrap();
        std::fs::write(&config.users_file, format!("alice:{hash}\n")).unwrap();
        let make = users::maker(&config.name, &config.roles);
        let file = WatchedFile {
            owner: Arc::clone(&config.name),
            path: config.users_file.clone(),
            most: Htpasswd::LARGEST,
            report: Box::new(|_| {}),
        };
        let watch = FileWatch::new(Handle::current());
        let users = watch.watch(file, move |text| Htpasswd::parse(text).map(&make));
        let pool = Blocking::new(1, 0);
        Self {
            method: BasicMethod::with(&config, users, &pool),
            pool,
            clock: Clock::movable(),
            _folder: folder,
        }
    }

    /// What is said to a password, and whether it was said without waiting.
    async fn login(&self, user: &str, password: &str) -> (Result<String, Reason>, bool) {
        let credentials = BASE64_STANDARD.encode(format!("{user}:{password}"));
        let request = http::Request::builder()
            .header("authorization", format!("Basic {credentials}"))
            .body(Body::empty())
            .unwrap();
        let verdict = self.method.check(&request, &self.context());
        let (verdict, at_once) = match verdict {
            Verdict::Pending(verdict) => (verdict.await, false),
            verdict => (verdict, true),
        };
        let outcome = match verdict {
            Verdict::Granted(grant) => Ok(grant.principal.name.to_string()),
            Verdict::Refused(refusal) => Err(refusal.reason),
            other => panic!("{other:?}"),
        };
        (outcome, at_once)
    }

    /// Keeps the pool busy until the sender is dropped.
    async fn keep_busy(&self) -> (mpsc::Sender<()>, JoinHandle<()>) {
        let (release, released) = mpsc::channel::<()>();
        let (start, started) = tokio::sync::oneshot::channel();
        let pool = self.pool.clone();
        let held = tokio::spawn(async move {
            let work = move || {
                let _ = start.send(());
                let _ = released.recv();
            };
            pool.run(work).await.unwrap();
        });
        started.await.unwrap();
        (release, held)
    }

    fn context(&self) -> Arc<Context> {
        let peer = Peer::Tcp(SocketAddr::from(([192, 0, 2, 7], 4_242)));
        let connection = Connection::new(0, "http".into(), peer, false, Protocol::Http1);
        Arc::new(Context::new(ContextParts {
            connection: Arc::new(connection),
            id: RequestId::generate(SystemTime::now()),
            trace: TraceContext::generate(),
            client: [192, 0, 2, 7].into(),
            forwarded_for: None,
            scheme: "http",
            forwarded_host: None,
            head: RequestHead {
                method: HttpMethod::GET,
                target: Uri::from_static("/"),
                version: Version::HTTP_11,
                host: None,
                user_agent: None,
                accept: None,
                origin: None,
                grpc: false,
                upgrade: None,
                trailers: false,
                told_more: false,
            },
            clock: self.clock.clone(),
            started_at: SystemTime::now(),
        }))
    }
}

fn alice() -> Result<String, Reason> {
    Ok("basic.staff:alice".to_owned())
}

#[tokio::test]
async fn a_right_password_is_hashed_once_until_it_is_forgotten() {
    let staff = Staff::new(Some(Duration::from_secs(300)));
    assert_eq!(staff.login("alice", "secret").await, (alice(), false));
    let (release, held) = staff.keep_busy().await;
    assert_eq!(staff.login("alice", "secret").await, (alice(), true));
    staff.clock.advance(Duration::from_secs(301));
    let busy = Err(Reason::AuthBusy);
    assert_eq!(staff.login("alice", "secret").await, (busy, false));
    drop(release);
    held.await.unwrap();
    assert_eq!(staff.login("alice", "secret").await, (alice(), false));
    assert_eq!(staff.login("alice", "secret").await, (alice(), true));
}

#[tokio::test]
async fn nothing_is_remembered_where_that_is_off() {
    let staff = Staff::new(None);
    for _ in 0..2 {
        assert_eq!(staff.login("alice", "secret").await, (alice(), false));
    }
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_are_hashed_each_time() {
    let staff = Staff::new(Some(Duration::from_secs(300)));
    for (user, password) in [("alice", "guess"), ("mallory", "secret")] {
        for _ in 0..2 {
            let wrong = Err(Reason::BasicWrong);
            assert_eq!(staff.login(user, password).await, (wrong, false));
        }
        let (release, held) = staff.keep_busy().await;
        let busy = Err(Reason::AuthBusy);
        assert_eq!(staff.login(user, password).await, (busy, false), "{user}");
        drop(release);
        held.await.unwrap();
    }
}

#[tokio::test]
async fn requests_at_once_wait_for_one_hash() {
    let staff = Staff::new(Some(Duration::from_secs(300)));
    // The pool takes one at a time and queues nothing: a second hash would be refused.
    let all = (0..20).map(|_| staff.login("alice", "secret"));
    for outcome in futures_util::future::join_all(all).await {
        assert_eq!(outcome.0, alice());
    }
}

#[tokio::test]
async fn nothing_is_recalled_for_who_has_failed_too_often() {
    let staff = Staff::new(Some(Duration::from_secs(300)));
    assert_eq!(staff.login("alice", "secret").await, (alice(), false));
    let credentials = BASE64_STANDARD.encode("alice:secret");
    let request = http::Request::builder()
        .header("authorization", format!("Basic {credentials}"))
        .body(Body::empty())
        .unwrap();
    assert!(
        staff
            .method
            .recall(&[], &request, &staff.context())
            .is_none()
    );
}
