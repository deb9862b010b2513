//! Stored answers take no more memory than the cache was given, as the allocator counts it.
//!
//! One test in a file of its own, because the counter is the process's.

use std::{
    alloc::System,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tollgate::{
    config::{Address, Config},
    gateway::Gateway,
};

/// An allocator is a static.
#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn random_answers_stay_within_the_memory_of_the_cache() {
    let mut random = fastrand::Rng::with_seed(11);
    // Of all sizes, and of a size where fields, keys and bookkeeping are most of it.
    of_sizes(3_000, || random.u32(..1 << 17) >> random.u32(..14));
    of_sizes(14_000, || 16);
}

fn of_sizes(requests: u32, mut size: impl FnMut() -> u32) {
    let origin = origin();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let text = format!(
        "[server]\nworkers = 1\nlisten = [\"127.0.0.1:0\"]\n[log.access]\nfile = \"{}\"\n\
         [cache]\nmemory = \"12MiB\"\nmax_object = \"1MiB\"\n\
         [routes.all]\nupstream = \"http://{origin}\"\ncache = {{ override_ttl = \"1h\" }}\n",
        directory.path().join("access.log").display()
    );
    let config = Config::parse("test.toml", &text).unwrap_or_else(|findings| panic!("{findings}"));
    let region = Region::new(COUNTED);
    let gateway = Gateway::start(config.config, None, None).expect("it starts");
    let Address::Tcp(address) = gateway.addresses()[0] else {
        panic!("it listens on TCP")
    };
    let mut client = BufReader::new(TcpStream::connect(address).expect("it listens"));
    let mut most = 0;
    for number in 0..requests {
        let size = size();
        let target = format!("/{size}/{number}");
        let sent = format!("GET {target} HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
        client
            .get_mut()
            .write_all(sent.as_bytes())
            .expect("it is open");
        assert_eq!(answer(&mut client), size as usize);
        if number % 100 == 0 {
            most = most.max(live(&region));
        }
    }
    eprintln!("{requests} answers: at most {most} bytes");
    assert!(most < MEMORY + REST, "{most}");
    assert!(most > MEMORY / 2, "{most}: most of it is used");
}

fn live(region: &Region<'_, System>) -> usize {
    let change = region.change();
    change
        .bytes_allocated
        .saturating_sub(change.bytes_deallocated)
}

/// Reads an answer; its length.
fn answer(client: &mut BufReader<TcpStream>) -> usize {
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        client.read_line(&mut line).expect("it is open");
        let field = line.to_ascii_lowercase();
        if let Some(value) = field.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    client.read_exact(&mut body).expect("it is open");
    length
}

/// A server that sends as much as the path says, with fields as answers have them.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || serve(BufReader::new(stream.expect("a connection"))));
        }
    });
    address
}

fn serve(mut stream: BufReader<TcpStream>) {
    let (mut line, mut size) = (String::new(), 0);
    while let Ok(1..) = stream.read_line(&mut line) {
        if let Some(target) = line.strip_prefix("GET /") {
            let text = target.split('/').next().unwrap_or_default();
            size = text.parse().expect("a number");
        }
        if line == "\r\n" {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: \"{size}\"\r\n\
                 X-Cache-Tags: one, two\r\nVary: Accept\r\nContent-Length: {size}\r\n\r\n"
            );
            let answer = [head.into_bytes(), vec![b'x'; size]].concat();
            if stream.get_mut().write_all(&answer).is_err() {
                return;
            }
        }
        line.clear();
    }
}

const MEMORY: usize = 12 << 20;
/// What a gateway takes beside its cache: buffers, metrics, the log, and the two ends of this test.
const REST: usize = 3 << 20;
