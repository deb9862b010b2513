//! One line of the access log: formatting alone, and through the writer to a file.

use std::{hint::black_box, net::SocketAddr, sync::Arc, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderValue, Method};
use tollgate::{
    config::AccessLog,
    exchange::{
        Attempt, Clock, Connection, Context, ContextParts, Peer, Protocol, RequestHead, RequestId,
        TraceContext,
    },
    frame::access_log::{End, LineOptions, line},
    telemetry::{AccessLogWriter, Metrics},
};

fn context() -> Context {
    let peer = Peer::Tcp(SocketAddr::from(([192, 0, 2, 7], 4_242)));
    let connection = Connection::new(0, "http".into(), peer, false, Protocol::Http1);
    let context = Context::new(ContextParts {
        connection: Arc::new(connection),
        id: RequestId::generate(std::time::SystemTime::now()),
        trace: TraceContext::generate(),
        client: [192, 0, 2, 7].into(),
        forwarded_for: None,
        scheme: "http",
        forwarded_host: None,
        head: RequestHead {
            target: "/api/v1/orders/1234?expand=lines&page=2"
                .parse()
                .expect("a target"),
            host: Some(HeaderValue::from_static("api.example.com")),
            user_agent: Some(HeaderValue::from_static("Mozilla/5.0 (X11; Linux x86_64)")),
            ..RequestHead::default()
        },
        clock: Clock::system(),
        started_at: std::time::SystemTime::now(),
    });
    context.matched(&"orders".into(), Vec::new());
    context.attempt(Attempt {
        upstream: "orders".into(),
        server: "http://10.0.0.1:8080".into(),
        connect: None,
        response: Some(Duration::from_micros(812)),
    });
    context
}

fn end() -> End {
    End {
        status: 200,
        bytes_out: 1_024,
        first_byte: Some(Duration::from_micros(845)),
        duration: Duration::from_micros(903),
        complete: true,
        upgraded: false,
    }
}

fn lines(criterion: &mut Criterion) {
    let (context, end) = (context(), end());
    let options = LineOptions::from(&AccessLog::default());
    let mut out = Vec::with_capacity(1_024);
    criterion.bench_function("access_log/line", |bencher| {
        bencher.iter(|| {
            out.clear();
            line(&mut out, black_box(&context), black_box(&end), &options);
            black_box(out.len())
        });
    });
}

fn writer(criterion: &mut Criterion) {
    let (context, end) = (context(), end());
    let config = AccessLog {
        file: Some("/dev/null".into()),
        ..AccessLog::default()
    };
    let options = LineOptions::from(&config);
    let dropped = Metrics::new().access_log_dropped();
    let writer = AccessLogWriter::start(&config, 1, dropped).expect("a writer");
    criterion.bench_function("access_log/write", |bencher| {
        bencher.iter(|| writer.write(0, |out| line(out, &context, &end, &options)));
    });
    writer.shutdown();
}

fn metrics(criterion: &mut Criterion) {
    let metrics = Metrics::new();
    let route = metrics.route("orders");
    criterion.bench_function("metrics/request", |bencher| {
        bencher.iter(|| {
            route.begin();
            let took = black_box(Duration::from_micros(903));
            route.finished(&Method::GET, http::StatusCode::OK, took, 0, 1_024);
        });
    });
}

criterion_group!(benches, lines, writer, metrics);
criterion_main!(benches);
