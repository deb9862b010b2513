//! `/items`: a small collection in memory with pages.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Body, Request, Response, failure, method_not_allowed, number, respond, success, with_header,
};

/// All items, by their numbers.
pub(super) struct Items(Mutex<Store>);

struct Store {
    items: BTreeMap<u64, Item>,
    last_id: u64,
}

#[derive(Serialize)]
struct Item {
    id: u64,
    name: String,
}

#[derive(Deserialize)]
struct NewItem {
    name: String,
}

impl Items {
    pub(super) fn with_samples() -> Self {
        let items = Self(Mutex::new(Store {
            items: BTreeMap::new(),
            last_id: 0,
        }));
        for name in SAMPLES {
            items.locked().add((*name).to_owned());
        }
        items
    }

    /// `/items`.
    pub(super) async fn collection(&self, request: Request) -> Response {
        match *request.method() {
            Method::GET | Method::HEAD => self.page(request.uri()),
            Method::POST => self.create(request).await,
            _ => method_not_allowed("GET, HEAD, POST"),
        }
    }

    /// `/items/{id}`.
    pub(super) fn single(&self, method: &Method, id: &str) -> Response {
        let mut store = self.locked();
        let Some(id) = id.parse().ok().filter(|id| store.items.contains_key(id)) else {
            return failure(StatusCode::NOT_FOUND, "NOT_FOUND", "There is no such item.");
        };
        match *method {
            Method::GET | Method::HEAD => success(StatusCode::OK, &json!(store.items.get(&id))),
            Method::DELETE => {
                store.items.remove(&id);
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            }
            _ => method_not_allowed("GET, HEAD, DELETE"),
        }
    }

    /// A page of `?limit=` items behind the number `?after=`; `meta.next` continues.
    fn page(&self, uri: &Uri) -> Response {
        let limit = number(uri, "limit", 20, 1..=100);
        let after = number(uri, "after", 0, 0..=u64::MAX - 1);
        let store = self.locked();
        let mut rest = store.items.range(after + 1..).map(|(_, item)| item);
        let page: Vec<&Item> = rest.by_ref().take(limit as usize).collect();
        let next = rest.next().and(page.last()).map(|item| item.id);
        let meta = json!({ "total": store.items.len(), "next": next });
        let envelope = json!({ "success": true, "data": page, "meta": meta });
        respond(StatusCode::OK, &envelope)
    }

    async fn create(&self, request: Request) -> Response {
        let Some(bytes) = body(request).await else {
            let message = "The body broke off or is over 16 KiB.";
            return failure(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", message);
        };
        let Ok(item) = serde_json::from_slice::<NewItem>(&bytes) else {
            let message = "The body must be {\"name\": \"...\"}.";
            return failure(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", message);
        };
        let mut store = self.locked();
        if store.items.len() >= MAX_ITEMS {
            let message = "The demo keeps 1,000 items: delete one first.";
            return failure(StatusCode::INSUFFICIENT_STORAGE, "FULL", message);
        }
        created(store.add(item.name))
    }

    fn locked(&self) -> MutexGuard<'_, Store> {
        // The store is whole after each step, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    fn add(&mut self, name: String) -> &Item {
        self.last_id += 1;
        let id = self.last_id;
        self.items.entry(id).or_insert(Item { id, name })
    }
}

fn created(item: &Item) -> Response {
    let response = success(StatusCode::CREATED, &json!(item));
    match HeaderValue::from_str(&format!("/items/{}", item.id)) {
        Ok(location) => with_header(response, header::LOCATION, location),
        Err(_) => response,
    }
}

async fn body(request: Request) -> Option<Bytes> {
    let body = Limited::new(request.into_body(), MAX_ITEM_BYTES);
    Some(body.collect().await.ok()?.to_bytes())
}

/// The collection at its start.
const SAMPLES: &[&str] = &[
    "anvil", "bellows", "chisel", "drill", "easel", "file", "gauge", "hammer",
];
const MAX_ITEMS: usize = 1000;
const MAX_ITEM_BYTES: usize = 16 << 10;
