//! `tollgate health`: asks a running gateway how it is; for `HEALTHCHECK` in images without curl.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use clap::Args;

use super::output::{self, Failure, Outcome};

/// Ask a running gateway whether it is alive, or ready for requests.
///
/// Prints the answer. Exit status 0 when it is, 1 when it is not or does not answer.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// The address of its admin listener.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    admin: SocketAddr,
    /// Ask whether it is ready, not only whether it is alive.
    #[arg(long)]
    ready: bool,
}

pub(super) fn run(options: &Options) -> Outcome {
    let path = match options.ready {
        true => "/health/ready",
        false => "/health",
    };
    let answer = ask(options.admin, path)
        .map_err(|error| Failure::run(&format!("no answer from {}", options.admin), &error))?;
    output::say(body(&answer))?;
    match is_success(&answer) {
        true => Ok(()),
        false => Err(Failure::Silent),
    }
}

fn ask(admin: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(LARGEST_ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn is_success(answer: &str) -> bool {
    let status = answer.strip_prefix("HTTP/1.1 ");
    status.is_some_and(|status| status.starts_with('2'))
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// For each step; the admin listener has a thread of its own and answers at once.
const PATIENCE: Duration = Duration::from_secs(2);
const LARGEST_ANSWER: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    fn told(answer: &'static str) -> Outcome {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // What is left unread would turn the close into a reset.
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let outcome = run(&Options { admin, ready: true });
        server.join().unwrap();
        outcome
    }

    #[test]
    fn a_ready_gateway_is_healthy() {
        assert!(told("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").is_ok());
    }

    #[test]
    fn a_draining_gateway_is_not() {
        let outcome = told("HTTP/1.1 503 Service Unavailable\r\n\r\n");
        assert!(matches!(outcome, Err(Failure::Silent)));
    }

    #[test]
    fn nobody_at_the_address_is_a_failure_that_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = listener.local_addr().unwrap();
        drop(listener);
        let outcome = run(&Options {
            admin,
            ready: false,
        });
        assert!(matches!(outcome, Err(Failure::Run(text)) if text.contains("no answer")));
    }
}
