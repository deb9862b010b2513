use std::collections::VecDeque;

use bytes::Bytes;
use http::{Request, Response};
use tokio::runtime::Handle;

use super::*;
use crate::{
    exchange::{Blocking, FileWatch, Subrequest, SubrequestError, SubrequestLimits},
    telemetry::Metrics,
};

/// Answers with one text after the other, and with the last for ever; an empty one is none.
struct Script {
    texts: Mutex<VecDeque<String>>,
    asked: Mutex<Vec<Duration>>,
    clock: Clock,
}

impl Subrequest for Script {
    fn send(
        &self,
        _: Request<Bytes>,
        _: SubrequestLimits,
    ) -> BoxFuture<Result<Response<Bytes>, SubrequestError>> {
        self.asked.lock().unwrap().push(self.clock.now());
        let mut texts = self.texts.lock().unwrap();
        let text = match texts.len() {
            1 => texts[0].clone(),
            _ => texts.pop_front().unwrap(),
        };
        let answer = match text.as_str() {
            "" => Err(SubrequestError::Timeout),
            _ => Ok(Response::new(Bytes::from(text))),
        };
        Box::pin(std::future::ready(answer))
    }
}

/// Keys of these names, in this order.
fn set(names: &[&str]) -> String {
    let key = |name: &&str| {
        let point = "A".repeat(43);
        format!(r#"{{"kty":"EC","crv":"P-256","kid":"{name}","x":"{point}","y":"{point}"}}"#)
    };
    let keys: Vec<_> = names.iter().map(key).collect();
    format!("{{\"keys\":[{}]}}", keys.join(","))
}

fn start(texts: &[String]) -> (Jwks, Arc<Script>) {
    let clock = Clock::system();
    let script = Arc::new(Script {
        texts: Mutex::new(texts.iter().cloned().collect()),
        asked: Mutex::default(),
        clock: clock.clone(),
    });
    let tools = Tools {
        clock,
        metrics: Metrics::new(),
        control: Handle::current(),
        subrequest: script.clone(),
        files: FileWatch::new(Handle::current()),
        blocking: Blocking::for_this_machine(),
    };
    let fetcher = Fetcher {
        client: script.clone(),
        at: KeysAt::Url("http://keys.test/".into()),
        algorithms: vec![Algorithm::ES256],
        timeout: Duration::from_secs(5),
    };
    let timing = KeyRefresh::default();
    let jwks = Jwks::start(&"jwt.main".into(), fetcher, &timing, &tools);
    (jwks, script)
}

fn finds(jwks: &Jwks, id: &str) -> bool {
    let lookup = jwks.lookup(Some(id), Algorithm::ES256);
    matches!(lookup, Lookup::Found(_))
}

#[tokio::test(start_paused = true)]
async fn the_generation_counts_changes_of_the_keys_and_not_fetches() {
    let (same, turned) = (set(&["a", "b"]), set(&["b", "a"]));
    let (jwks, script) = start(&[same.clone(), same, turned, set(&["a"])]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(jwks.generation(), 1);
    tokio::time::sleep(Duration::from_secs(1200)).await;
    assert!(script.asked.lock().unwrap().len() >= 3);
    let generation = jwks.generation();
    tokio::time::sleep(Duration::from_secs(1200)).await;
    assert_eq!((generation <= 2, jwks.generation()), (true, 2));
    assert!(finds(&jwks, "a") && !finds(&jwks, "b"));
}

#[tokio::test(start_paused = true)]
async fn keys_too_old_to_be_used_end_their_generation_at_once() {
    let (jwks, _script) = start(&[set(&["a"]), String::new()]);
    tokio::time::sleep(Duration::from_secs(86_000)).await;
    assert!(finds(&jwks, "a"));
    assert_eq!(jwks.generation(), 1);
    tokio::time::sleep(Duration::from_secs(401)).await;
    assert_eq!(jwks.generation(), 2);
    let lookup = jwks.lookup(Some("a"), Algorithm::ES256);
    assert!(!matches!(lookup, Lookup::Found(_)));
}

#[tokio::test(start_paused = true)]
async fn failures_are_followed_by_tries_further_and_further_apart() {
    let (_jwks, script) = start(&[String::new()]);
    tokio::time::sleep(Duration::from_secs(600)).await;
    let asked = script.asked.lock().unwrap().clone();
    let gaps: Vec<_> = asked.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(gaps[0] <= Duration::from_millis(1010), "{gaps:?}");
    let late = gaps.iter().skip(6);
    let most = Duration::from_millis(60_010);
    assert!(
        late.clone()
            .all(|gap| *gap >= Duration::from_secs(30) && *gap <= most)
    );
    assert!(late.count() > 5);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_source_asks_no_more() {
    let (jwks, script) = start(&[set(&["a"])]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(jwks);
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    assert_eq!(script.asked.lock().unwrap().len(), 1);
    assert_eq!(Arc::strong_count(&script), 1, "the task still holds it");
}
