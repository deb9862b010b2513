//! A provider of keys that does as it is told.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use http::{Request, Response};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    signer::Signer,
    support::{Authority, BoxBody, Server, full},
};

/// What it answers.
#[derive(Clone)]
pub enum Says {
    /// This text at every path but that of the metadata.
    Text(String),
    /// A status and nothing else.
    Status(u16),
    /// Nothing, for ever.
    Nothing,
}

/// A provider of keys and of an issuer's metadata.
pub struct Provider {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    says: Mutex<Says>,
    metadata: Mutex<Option<Value>>,
    max_age: Mutex<Option<u32>>,
    /// The paths that were asked for.
    asked: Mutex<Vec<String>>,
    /// While it is closed requests wait.
    open: watch::Sender<bool>,
}

impl Provider {
    /// Has these keys.
    pub async fn of(keys: &[(&Signer, &str)]) -> Self {
        let shared = shared(keys);
        let server = Server::http1(handler(&shared)).await;
        Self { server, shared }
    }

    /// The same over TLS.
    pub async fn https(authority: &Authority, keys: &[(&Signer, &str)]) -> Self {
        let shared = shared(keys);
        let server = Server::https(authority, handler(&shared)).await;
        Self { server, shared }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    /// From now on it has these keys.
    pub fn has(&self, keys: &[(&Signer, &str)]) {
        self.says(Says::Text(set(keys)));
    }

    pub fn says(&self, says: Says) {
        *self.shared.says.lock().unwrap() = says;
    }

    pub fn says_text(&self, text: impl Into<String>) {
        self.says(Says::Text(text.into()));
    }

    /// What its metadata are.
    pub fn describes(&self, metadata: Value) {
        *self.shared.metadata.lock().unwrap() = Some(metadata);
    }

    pub fn max_age(&self, seconds: u32) {
        *self.shared.max_age.lock().unwrap() = Some(seconds);
    }

    /// Lets requests wait, or go on.
    pub fn open(&self, open: bool) {
        self.shared.open.send_replace(open);
    }

    /// How many requests have come.
    pub fn asked(&self) -> usize {
        self.shared.asked.lock().unwrap().len()
    }

    /// The paths of all requests.
    pub fn paths(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Goes away; it can be [revived](Gone::revive).
    pub async fn die(self) -> Gone {
        let address = self.server.address();
        self.server.stop().await;
        let shared = self.shared;
        Gone { address, shared }
    }
}

/// A provider that has gone.
pub struct Gone {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Gone {
    pub async fn revive(self) -> Provider {
        let server = Server::http1_at(self.address, handler(&self.shared)).await;
        let shared = self.shared;
        Provider { server, shared }
    }
}

/// A JWK set.
pub fn set(keys: &[(&Signer, &str)]) -> String {
    let keys: Vec<_> = keys.iter().map(|(signer, id)| signer.jwk(id)).collect();
    json!({ "keys": keys }).to_string()
}

fn shared(keys: &[(&Signer, &str)]) -> Arc<Shared> {
    Arc::new(Shared {
        says: Mutex::new(Says::Text(set(keys))),
        metadata: Mutex::default(),
        max_age: Mutex::default(),
        asked: Mutex::default(),
        open: watch::Sender::new(true),
    })
}

fn handler(
    shared: &Arc<Shared>,
) -> impl Fn(Request<Incoming>) -> std::pin::Pin<Box<dyn Future<Output = Response<BoxBody>> + Send>>
+ Clone
+ Send
+ 'static {
    let shared = Arc::clone(shared);
    move |request| {
        let shared = Arc::clone(&shared);
        Box::pin(async move { shared.answer(request.uri().path()).await })
    }
}

impl Shared {
    async fn answer(&self, path: &str) -> Response<BoxBody> {
        self.asked.lock().unwrap().push(path.to_owned());
        let mut open = self.open.subscribe();
        let _ = open.wait_for(|open| *open).await;
        if path.ends_with("/.well-known/openid-configuration") {
            let metadata = self.metadata.lock().unwrap().clone();
            return text(metadata.unwrap_or_default().to_string(), None);
        }
        let (says, max_age) = (
            self.says.lock().unwrap().clone(),
            *self.max_age.lock().unwrap(),
        );
        match says {
            Says::Text(says) => text(says, max_age),
            Says::Status(status) => {
                let mut response = Response::new(full(""));
                *response.status_mut() = status.try_into().unwrap();
                response
            }
            Says::Nothing => std::future::pending().await,
        }
    }
}

fn text(text: String, max_age: Option<u32>) -> Response<BoxBody> {
    let mut response = Response::new(full(text));
    if let Some(seconds) = max_age {
        let value = format!("public, max-age={seconds}");
        let headers = response.headers_mut();
        headers.insert("cache-control", value.parse().unwrap());
    }
    response
}
