//! Tunnels and the token that opened them.

use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::json;

use crate::{
    Site, bearer,
    signer::{Signer, alice, alice_with, now},
    support::{Origin, Raw, within},
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
    let ask = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n{}\r\n",
        bearer(token)
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
