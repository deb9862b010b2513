//! Tunnels and the credential that opened them.

use std::time::{Duration, SystemTime};

use jsonwebtoken::Algorithm;
use serde_json::json;

use crate::{
    Site, bearer,
    signer::{Signer, alice, alice_with, now},
    support::{KeysFile, Origin, Raw, new_key, within},
};

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                      Upgrade: echo\r\n\r\n";

/// An origin that switches and says back what it hears, four bytes at a time.
async fn echo() -> Origin {
    Origin::start(|mut peer| async move {
        peer.request().await;
        peer.write(SWITCH).await;
        loop {
            let bytes = peer.read(4).await;
            if bytes.len() < 4 || !peer.write(bytes).await {
                return;
            }
        }
    })
    .await
}

async fn open(site: &Site, token: &str) -> Raw {
    open_with(site, &bearer(token)).await
}

async fn open_with(site: &Site, fields: &str) -> Raw {
    let ask = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n{fields}\r\n"
    );
    let mut client = Raw::connect(site.gateway.address()).await;
    client.send(ask).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101"));
    ping(&mut client).await;
    client
}

async fn ping(client: &mut Raw) {
    client.send("ping").await;
    assert_eq!(client.read(4).await, b"ping");
}

#[tokio::test]
async fn a_tunnel_ends_when_its_token_expires_if_the_route_says_so() {
    let signer = Signer::new(Algorithm::HS256);
    let token = signer.token(&alice());
    for (closes, keys) in [(true, "close_on_token_expiry = true"), (false, "")] {
        let origin = echo().await;
        let tables = format!(
            "[auth.jwt.main]\n{}\n[routes.chat]\nmethods = 'GET'\nupstream = '{}'\n\
             auth = 'jwt.main'\n{keys}\n",
            signer.keys(),
            origin.url()
        );
        let site = Site::with(&tables, "auth = 'public'").await;
        let mut client = open(&site, &token).await;
        site.clock.advance(Duration::from_secs(1800));
        ping(&mut client).await;
        site.clock.advance(Duration::from_secs(1900));
        if !closes {
            ping(&mut client).await;
            continue;
        }
        assert!(within(client.rest()).await.is_empty());
        let line = site.gateway.log_line().await;
        assert_eq!(line["reason"], "tunnel.credential_expired", "{line:#}");
    }
}

#[tokio::test]
async fn a_tunnel_ends_with_the_first_of_several_tokens_that_had_to_hold() {
    let (person, device) = (Signer::new(Algorithm::HS256), Signer::new(Algorithm::HS256));
    let origin = echo().await;
    let tables = format!(
        "[auth.jwt.person]\n{}\n[auth.jwt.device]\n{}\nfrom = 'header:x-device'\n\
         [routes.chat]\nmethods = 'GET'\nupstream = '{}'\nclose_on_token_expiry = true\n\
         auth = {{ all = ['jwt.person', 'jwt.device'] }}\n",
        person.keys(),
        device.keys(),
        origin.url()
    );
    let site = Site::with(&tables, "auth = 'public'").await;
    let lasting = person.token(&alice_with(json!({ "exp": now() + 86_400 })));
    let short = format!("{lasting}\r\nX-Device: {}", device.token(&alice()));
    let mut client = open(&site, &short).await;
    site.clock.advance(Duration::from_secs(3700));
    assert!(within(client.rest()).await.is_empty());
}

/// A key that was replaced is good until its overlap ends, and so is what it has opened.
#[tokio::test]
async fn a_tunnel_ends_when_its_key_expires_and_when_a_replaced_one_does() {
    let date = |hours: u64| {
        let later = SystemTime::now() + Duration::from_secs(3600 * hours);
        tollgate::config::date_of(later)
    };
    let mut file = KeysFile::new();
    let expiring = file.add("expiring", &format!("expires = {}", date(1)));
    let (replaced, hash) = new_key();
    let lines = format!(
        "previous = [{{ hash = \"{hash}\", until = {} }}]\nexpires = {}",
        date(1),
        date(24)
    );
    let lasting = file.add("rotated", &lines);
    let origin = echo().await;
    let tables = format!(
        "[auth.api_keys.partners]\nkeys_file = '{}'\n[routes.chat]\nmethods = 'GET'\n\
         upstream = '{}'\nauth = 'api_keys.partners'\nclose_on_token_expiry = true\n",
        file.path().display(),
        origin.url()
    );
    let site = Site::with(&tables, "auth = 'public'").await;
    let mut tunnels = Vec::new();
    for key in [&expiring, &replaced, &lasting] {
        tunnels.push(open_with(&site, &format!("X-Api-Key: {key}\r\n")).await);
    }
    site.clock.advance(Duration::from_secs(1800));
    for tunnel in &mut tunnels {
        ping(tunnel).await;
    }
    site.clock.advance(Duration::from_secs(1900));
    for tunnel in &mut tunnels[..2] {
        assert!(within(tunnel.rest()).await.is_empty());
    }
    ping(&mut tunnels[2]).await;
    let lines = site.gateway.log_lines(2).await;
    let mut ended: Vec<_> = lines
        .iter()
        .map(|line| (line["principal"].as_str(), line["reason"].as_str()))
        .collect();
    ended.sort_unstable();
    let why = Some("tunnel.credential_expired");
    let names = ["api_keys.partners:expiring", "api_keys.partners:rotated"];
    assert_eq!(ended, names.map(|name| (Some(name), why)));
}
