//! How long a fetch goes on whose answer does not end, by a clock that does not wait.

use std::{
    collections::BTreeSet,
    future::pending,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use futures_util::stream;
use http::{StatusCode, header::CACHE_CONTROL};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::{runtime, time::sleep};
use tower::Layer;

use super::{
    super::{Cache, CacheLayer, fill::tests::context},
    *,
};
use crate::{
    config::Config,
    exchange::{
        Blocking, BodyError, BoxFuture, Clock, FileWatch, Handle, RouteService, Subrequest,
        SubrequestError, SubrequestLimits,
    },
    pipeline::Tools,
    telemetry::Metrics,
};

/// An upstream whose answer brings a byte each second, for ever. It notes when nobody fetches that
/// any more.
struct Trickle(Arc<AtomicBool>);

impl Handle for Trickle {
    fn handle(&self, _: Request, _: &Arc<Context>) -> BoxFuture<Response> {
        let bytes = stream::unfold(Fetched(Arc::clone(&self.0)), |fetched| async move {
            sleep(SECOND).await;
            let frame = Frame::data(Bytes::from_static(b"."));
            Some((Ok::<_, BodyError>(frame), fetched))
        });
        let mut response = Response::new(Body::boxed(StreamBody::new(bytes)));
        let fresh = HeaderValue::from_static("max-age=60");
        response.headers_mut().insert(CACHE_CONTROL, fresh);
        Box::pin(std::future::ready(response))
    }
}

struct Fetched(Arc<AtomicBool>);

impl Drop for Fetched {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// An upstream whose answers bring nothing behind their heads. It notes which paths are being fetched.
struct Stalling(Arc<Mutex<BTreeSet<String>>>);

impl Handle for Stalling {
    fn handle(&self, request: Request, _: &Arc<Context>) -> BoxFuture<Response> {
        let path = request.uri().path().to_owned();
        self.0.lock().expect("no panic").insert(path.clone());
        let listed = Listed(Arc::clone(&self.0), path);
        let bytes = stream::unfold(listed, |listed| async move {
            pending::<()>().await;
            Some((Ok::<_, BodyError>(Frame::data(Bytes::new())), listed))
        });
        let mut response = Response::new(Body::boxed(StreamBody::new(bytes)));
        let fresh = HeaderValue::from_static("max-age=60");
        response.headers_mut().insert(CACHE_CONTROL, fresh);
        Box::pin(std::future::ready(response))
    }
}

/// A path on that list, until it is fetched no more.
struct Listed(Arc<Mutex<BTreeSet<String>>>, String);

impl Drop for Listed {
    fn drop(&mut self) {
        self.0.lock().expect("no panic").remove(&self.1);
    }
}

/// The gateway asks nothing on its own account here.
struct Nobody;

impl Subrequest for Nobody {
    fn send(
        &self,
        _: http::Request<Bytes>,
        _: SubrequestLimits,
    ) -> BoxFuture<Result<http::Response<Bytes>, SubrequestError>> {
        Box::pin(std::future::ready(Err(SubrequestError::Timeout)))
    }
}

/// A cache, a route with it in front of an upstream that trickles, and whether that has been left.
fn trickling() -> (Arc<Cache>, RouteService, Arc<AtomicBool>) {
    let left = Arc::<AtomicBool>::default();
    let (cache, service) = in_front_of(Trickle(Arc::clone(&left)), "");
    (cache, service, left)
}

/// What caches are made with, on this runtime.
pub(in crate::pipeline::cache) fn tools() -> Tools {
    let control = runtime::Handle::current();
    Tools {
        clock: Clock::system(),
        metrics: Metrics::new(),
        control: control.clone(),
        subrequest: Arc::new(Nobody),
        files: FileWatch::new(control),
        redis: None,
        workers: 1,
        blocking: Blocking::for_this_machine(),
    }
}

/// A cache with these keys in its table, and a route with it in front of an upstream.
fn in_front_of(upstream: impl Handle, cache: &str) -> (Arc<Cache>, RouteService) {
    let route = "[routes.a]\nupstream = 'http://127.0.0.1:1'\ncache = {}\n";
    let text = format!("[cache]\n{cache}\n{route}");
    let loaded = Config::parse("test.toml", &text).unwrap_or_else(|findings| panic!("{findings}"));
    let cache = Cache::from_config(&loaded.config.cache, &tools(), &Arc::default(), None);
    let route = &loaded.config.routes[0];
    let layer = CacheLayer::from_config(route, Some(&cache), &Arc::default());
    let service = RouteService::new(upstream);
    let service = layer.expect("the route has a cache").layer(service);
    (cache, service)
}

async fn ask(service: &RouteService) -> Response {
    ask_for(service, "/").await
}

async fn ask_for(service: &RouteService, path: &str) -> Response {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = path.parse().expect("a path");
    let response = service.handle(request, &context()).await;
    assert_eq!(response.status(), StatusCode::OK);
    response
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_trickles_for_ever_ends_when_it_can_be_stored_no_more() {
    let (cache, service, left) = trickling();
    // The client takes the head and leaves.
    drop(ask(&service).await);
    sleep(LONGEST_FETCH - 2 * SECOND).await;
    assert!(!left.load(SeqCst), "it could still come to its end");
    assert_eq!(cache.flights.len(), 1);
    assert!(cache.budget.used() > 0);
    sleep(4 * SECOND).await;
    assert!(left.load(SeqCst));
    assert_eq!((cache.flights.len(), cache.budget.used()), (0, 0));
    assert!(cache.store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_stays_reads_on_what_takes_too_long_to_be_stored() {
    let (cache, service, left) = trickling();
    let mut body = ask(&service).await.into_body();
    for _ in 0..LONGEST_FETCH.as_secs() + 10 {
        let frame = body.frame().await.expect("it goes on");
        assert_eq!(
            frame.expect("no fault").into_data().ok().as_deref(),
            Some(&b"."[..])
        );
    }
    assert!(!left.load(SeqCst));
    assert_eq!(cache.budget.used(), 0, "what was read is given up");
    drop(body);
    sleep(2 * SECOND).await;
    assert!(left.load(SeqCst));
    assert_eq!((cache.flights.len(), cache.budget.used()), (0, 0));
    assert!(cache.store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_oldest_fetch_without_a_client_ends_for_the_newest_when_it_has_had_its_time() {
    let fetched = Arc::<Mutex<BTreeSet<String>>>::default();
    let upstream = Stalling(Arc::clone(&fetched));
    let (_cache, service) = in_front_of(upstream, "memory = '1MiB'\nmax_object = '64KiB'");
    // A client asks for this and leaves; the paths that are fetched then.
    let leave = async |number: usize| {
        drop(ask_for(&service, &format!("/{number}")).await);
        sleep(Duration::from_millis(1)).await;
        fetched.lock().expect("no panic").clone()
    };
    for number in 0..16 {
        assert_eq!(leave(number).await.len(), number + 1);
    }
    let before = leave(16).await;
    assert_eq!(before.len(), 16, "there are no more places");
    assert!(!before.contains("/16"), "nobody has had one for long");
    sleep(5 * SECOND).await;
    let mut after = leave(17).await;
    assert!(after.remove("/17") && !after.contains("/0"), "{after:?}");
    assert_eq!(after.len(), 15, "the others go on: {after:?}");
}

const SECOND: Duration = Duration::from_secs(1);
