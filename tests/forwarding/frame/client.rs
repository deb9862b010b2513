//! The client's address and the forwarding header fields.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::{TRUSTING, get, site};
use crate::support::{Raw, within};

#[tokio::test]
async fn an_untrusted_peers_claims_are_dropped_and_written_anew() {
    let (origin, gateway) = site("").await;
    let fields = "X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\n\
                  X-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /x\r\n\
                  X-Forwarded: for=9.9.9.9\r\nX-Scheme: https\r\nX-Url-Scheme: https\r\n\
                  Front-End-Https: on\r\n\
                  X-Real-IP: 9.9.9.9\r\nForwarded: for=9.9.9.9;host=evil\r\n";
    Raw::ask(gateway.address(), get(fields)).await;
    let request = origin.request();
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.header("x-forwarded-proto"), Some("http"));
    assert_eq!(request.header("x-forwarded-host"), Some("a.test"));
    for name in [
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded",
        "x-scheme",
        "x-url-scheme",
        "front-end-https",
        "x-real-ip",
        "forwarded",
    ] {
        assert_eq!(request.header(name), None, "{name}");
    }
    assert_eq!(gateway.log_line().await["client"], "127.0.0.1");
}

#[tokio::test]
async fn a_trusted_proxys_claims_are_extended() {
    let (origin, gateway) = site(TRUSTING).await;
    let fields = "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 203.0.113.7\r\n\
                  X-Forwarded-Proto: https\r\nX-Forwarded-Host: outer.test\r\n\
                  X-Forwarded-Port: 443\r\nX-Real-IP: 203.0.113.7\r\nX-Scheme: https\r\n";
    Raw::ask(gateway.address(), get(fields)).await;
    let request = origin.request();
    assert_eq!(
        request.header("x-forwarded-for"),
        Some("1.2.3.4, 203.0.113.7, 127.0.0.1")
    );
    assert_eq!(request.header("x-forwarded-proto"), Some("https"));
    assert_eq!(request.header("x-forwarded-host"), Some("outer.test"));
    assert_eq!(request.header("x-forwarded-port"), Some("443"));
    assert_eq!(request.header("x-real-ip"), Some("203.0.113.7"));
    assert_eq!(request.header("x-scheme"), Some("https"));
    assert_eq!(request.header("host"), Some("a.test"));
    assert_eq!(gateway.log_line().await["client"], "203.0.113.7");
}

#[tokio::test]
async fn a_trusted_proxy_that_speaks_only_forwarded_is_understood() {
    let (origin, gateway) = site(TRUSTING).await;
    let fields = "Forwarded: for=\"[2001:db8::7]:4711\";proto=https;host=outer.test\r\n";
    Raw::ask(gateway.address(), get(fields)).await;
    let request = origin.request();
    assert_eq!(request.header("x-forwarded-proto"), Some("https"));
    assert_eq!(request.header("x-forwarded-host"), Some("outer.test"));
    assert_eq!(request.header("forwarded"), None);
    assert_eq!(gateway.log_line().await["client"], "2001:db8::7");
}

#[tokio::test]
async fn a_client_cannot_choose_its_address_by_the_family_that_its_proxy_does_not_write() {
    let claimed = "X-Forwarded-For: 10.9.9.9\r\nX-Forwarded-Host: evil\r\n";
    let told = "Forwarded: for=203.0.113.7\r\n";
    let fields = format!("{claimed}{told}");
    let (origin, gateway) = site(TRUSTING).await;
    let answer = Raw::ask(gateway.address(), get(&fields)).await;
    let ambiguous = (400, "request.forwarded_ambiguous".to_owned());
    assert_eq!(answer.refusal(), ambiguous);
    assert!(origin.requests().is_empty());
    for (family, client, host) in [
        ("forwarded", "203.0.113.7", "a.test"),
        ("x-forwarded", "10.9.9.9", "evil"),
    ] {
        let trusting = format!("{TRUSTING}trusted_headers = \"{family}\"\n");
        let (origin, gateway) = site(&trusting).await;
        Raw::ask(gateway.address(), get(&fields)).await;
        assert_eq!(gateway.log_line().await["client"], client);
        let request = origin.request();
        assert_eq!(request.header("x-forwarded-host"), Some(host));
    }
}

#[tokio::test]
async fn a_real_ip_that_is_not_the_clients_is_not_the_proxys_word() {
    for (real, passes) in [
        ("X-Real-IP: 203.0.113.7\r\n", true),
        ("X-Real-IP: 10.9.9.9\r\n", false),
        ("X-Real-IP: 203.0.113.7\r\nX-Real-IP: 10.9.9.9\r\n", false),
    ] {
        let (origin, gateway) = site(TRUSTING).await;
        let fields = format!("X-Forwarded-For: 203.0.113.7\r\n{real}");
        Raw::ask(gateway.address(), get(&fields)).await;
        let request = origin.request();
        assert_eq!(request.header("x-real-ip").is_some(), passes, "{real}");
    }
}

#[tokio::test]
async fn a_proxy_may_be_named_by_its_mapped_address() {
    let (_origin, gateway) = site("[server]\ntrusted_proxies = [\"::ffff:127.0.0.0/104\"]\n").await;
    Raw::ask(gateway.address(), get("X-Forwarded-For: 203.0.113.7\r\n")).await;
    assert_eq!(gateway.log_line().await["client"], "203.0.113.7");
}

#[tokio::test]
async fn a_proxy_may_write_both_families() {
    let (_origin, gateway) = site(TRUSTING).await;
    let fields = "X-Forwarded-For: 6.6.6.6, 203.0.113.7\r\nForwarded: for=203.0.113.7\r\n";
    Raw::ask(gateway.address(), get(fields)).await;
    assert_eq!(gateway.log_line().await["client"], "203.0.113.7");
}

#[tokio::test]
async fn a_host_that_a_proxy_quotes_names_no_client() {
    let (_origin, gateway) = site(TRUSTING).await;
    let fields = "Forwarded: for=203.0.113.7;host=\"a;for=10.9.9.9,for=10.9.9.9\"\r\n";
    Raw::ask(gateway.address(), get(fields)).await;
    assert_eq!(gateway.log_line().await["client"], "203.0.113.7");
}

#[tokio::test]
async fn forwarded_is_written_by_option() {
    let (origin, gateway) = site("[server]\nforwarded = true\n").await;
    Raw::ask(gateway.address(), get("Forwarded: for=9.9.9.9\r\n")).await;
    assert_eq!(
        origin.request().header("forwarded"),
        Some("for=127.0.0.1;host=\"a.test\";proto=http")
    );
    let (origin, gateway) = site(&format!("{TRUSTING}forwarded = true\n")).await;
    let fields = "X-Forwarded-For: 2001:db8::7\r\nX-Forwarded-Proto: https\r\n";
    Raw::ask(gateway.address(), get(fields)).await;
    assert_eq!(
        origin.request().header("forwarded"),
        Some("for=\"[2001:db8::7]\", for=127.0.0.1;host=\"a.test\";proto=https")
    );
}

#[tokio::test]
async fn forwarded_stays_a_list_of_nodes_whatever_was_claimed() {
    let (origin, gateway) = site(&format!("{TRUSTING}forwarded = true\n")).await;
    let claims = "a;proto=https;host=evil, unknown, 203.0.113.7:4711, [2001:db8::7]:80, \"x\"";
    let fields = format!("X-Forwarded-For: {claims}\r\n");
    Raw::ask(gateway.address(), get(&fields)).await;
    assert_eq!(
        origin.request().header("forwarded"),
        Some(
            "for=unknown, for=unknown, for=\"203.0.113.7:4711\", for=\"[2001:db8::7]:80\", \
             for=unknown, for=127.0.0.1;host=\"a.test\";proto=http"
        )
    );
}

#[tokio::test]
async fn hops_go_on_as_they_were_told() {
    let (origin, gateway) = site(TRUSTING).await;
    let claims = "[2001:db8::7]:80, 2001:db8::7, 203.0.113.7:4711";
    let fields = format!("X-Forwarded-For: {claims}\r\n");
    Raw::ask(gateway.address(), get(&fields)).await;
    let expected = format!("{claims}, 127.0.0.1");
    let request = origin.request();
    assert_eq!(request.header("x-forwarded-for"), Some(&*expected));
}

#[tokio::test]
async fn a_client_of_a_unix_socket_is_on_this_machine() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("gate.sock");
    let tables = format!("[server]\nlisten = [\"unix:{}\"]\n", path.display());
    let (origin, gateway) = site(&tables).await;
    let mut stream = UnixStream::connect(&path).await.expect("it listens");
    let request = get("Connection: close\r\n");
    let written = stream.write_all(request.as_bytes()).await;
    written.expect("it is open");
    let mut answer = String::new();
    let read = within(stream.read_to_string(&mut answer)).await;
    read.expect("an answer and its end");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let request = origin.request();
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(gateway.log_line().await["client"], "127.0.0.1");
}
