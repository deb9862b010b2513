//! How long a fetch goes on whose answer does not end, by a clock that does not wait.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

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
    let text = "[routes.a]\nupstream = 'http://127.0.0.1:1'\ncache = {}\n";
    let loaded = Config::parse("test.toml", text).unwrap_or_else(|findings| panic!("{findings}"));
    let control = runtime::Handle::current();
    let tools = Tools {
        clock: Clock::system(),
        metrics: Metrics::new(),
        control: control.clone(),
        subrequest: Arc::new(Nobody),
        files: FileWatch::new(control),
        redis: None,
        workers: 1,
        blocking: Blocking::for_this_machine(),
    };
    let cache = Cache::from_config(&loaded.config.cache, &tools, None);
    let route = &loaded.config.routes[0];
    let layer = CacheLayer::from_config(route, Some(&cache), &Arc::default());
    let left = Arc::<AtomicBool>::default();
    let service = RouteService::new(Trickle(Arc::clone(&left)));
    let service = layer.expect("the route has a cache").layer(service);
    (cache, service, left)
}

async fn ask(service: &RouteService) -> Response {
    let response = service
        .handle(Request::new(Body::empty()), &context())
        .await;
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

const SECOND: Duration = Duration::from_secs(1);
