//! What an operator sees of limits, and may undo.

use serde_json::Value;

use super::Limited;
use crate::support::{Answer, Raw, Streams, release};

pub(super) async fn ask(limited: &Limited, method: &str, path: &str) -> Answer {
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    Raw::ask(limited.gateway.admin(), request).await
}

pub(super) async fn get(limited: &Limited, path: &str) -> Value {
    let answer = ask(limited, "GET", path).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

const TENANTS: &str = "[rate_limits.tenants]\nkey = 'header:x-tenant'\nquota = '10/1h'\n";
const ADDRESS: &str = "[rate_limits.address]\nkey = 'client_ip'\nquota = ['100/1m', '1000/1h']\n";

async fn used(tables: &str) -> Limited {
    let limited = Limited::answering("['tenants', 'address']", tables);
    for (tenant, times) in [("a", 1), ("b", 3), ("c", 2)] {
        let lines = format!("X-Tenant: {tenant}\r\n");
        assert_eq!(limited.passed(times, &lines).await, times);
    }
    limited
}

#[tokio::test]
async fn limits_are_listed_with_what_they_hold() {
    let limited = used(&format!("{TENANTS}{ADDRESS}")).await;
    let limits = get(&limited, "/api/limits").await;
    assert_eq!(limits["meta"]["total"], 2);
    let tenants = &limits["data"][1];
    assert_eq!(tenants["name"], "tenants");
    assert_eq!(tenants["algorithm"], "token_bucket");
    assert_eq!(tenants["key"], serde_json::json!(["header:x-tenant"]));
    assert_eq!(
        (&tenants["keys"], &tenants["max_keys"]),
        (&3.into(), &100_000.into())
    );
    assert!(tenants["bytes"].as_u64() > Some(0));
    assert_eq!(tenants["store"], "memory");
    assert_eq!(tenants["lease"], Value::Null);
    assert_eq!(
        limits["data"][0]["quota"],
        serde_json::json!(["100/1m", "1000/1h"])
    );
}

#[tokio::test]
async fn the_busiest_keys_come_first_and_only_as_hashes() {
    let limited = used(&format!("{TENANTS}{ADDRESS}")).await;
    let keys = get(&limited, "/api/limits/tenants/keys").await;
    assert_eq!(keys["meta"]["total"], 3);
    assert_eq!(keys["meta"]["store"], "memory");
    assert_eq!(keys["meta"]["sample"], false);
    let remaining: Vec<_> = keys["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|key| &key["windows"][0]["remaining"])
        .collect();
    assert_eq!(remaining, [7, 8, 9]);
    assert_eq!(keys["data"][0]["key"], Value::Null);
    assert_eq!(keys["data"][0]["hash"].as_str().map(str::len), Some(32));
    let first = get(&limited, "/api/limits/tenants/keys?limit=2").await;
    assert_eq!(first["data"].as_array().map(Vec::len), Some(2));
    let cursor = first["meta"]["cursor"].as_str().expect("there is more");
    let rest = get(
        &limited,
        &format!("/api/limits/tenants/keys?limit=2&cursor={cursor}"),
    )
    .await;
    assert_eq!(rest["data"][0]["hash"], keys["data"][2]["hash"]);
    assert_eq!(rest["meta"]["cursor"], Value::Null);
}

#[tokio::test]
async fn keys_are_shown_where_the_limit_says_so() {
    let limited = used(&format!("{TENANTS}show_keys = true\n{ADDRESS}")).await;
    let keys = get(&limited, "/api/limits/tenants/keys").await;
    assert_eq!(keys["data"][0]["key"], "b");
}

#[tokio::test]
async fn a_key_is_found_and_reset_by_its_hash_or_its_value() {
    let limited = used(&format!("{TENANTS}{ADDRESS}")).await;
    let key = get(&limited, "/api/limits/tenants/keys/b").await;
    assert_eq!(key["data"]["windows"][0]["remaining"], 7);
    let hash = key["data"]["hash"].as_str().expect("a hash");
    assert_eq!(
        get(&limited, &format!("/api/limits/tenants/keys/{hash}")).await["data"]["hash"],
        hash
    );
    let address = get(&limited, "/api/limits/address/keys/127.0.0.1").await;
    assert_eq!(address["data"]["windows"][1]["remaining"], 994);
    assert_eq!(
        ask(&limited, "DELETE", "/api/limits/tenants/keys/b")
            .await
            .status,
        204
    );
    assert_eq!(
        ask(&limited, "DELETE", "/api/limits/tenants/keys/b")
            .await
            .status,
        404
    );
    assert_eq!(limited.passed(1, "X-Tenant: b\r\n").await, 1);
    let key = get(&limited, "/api/limits/tenants/keys/b").await;
    assert_eq!(key["data"]["windows"][0]["remaining"], 9);
}

#[tokio::test]
async fn a_client_without_the_key_is_found_and_reset_by_its_address() {
    let limited = used(&format!("{TENANTS}{ADDRESS}")).await;
    let path = "/api/limits/tenants/keys/127.0.0.1";
    assert_eq!(ask(&limited, "GET", path).await.status, 404);
    assert_eq!(limited.passed(4, "").await, 4);
    let key = get(&limited, path).await;
    assert_eq!(key["data"]["windows"][0]["remaining"], 6);
    assert_eq!(ask(&limited, "DELETE", path).await.status, 204);
    assert_eq!(ask(&limited, "GET", path).await.status, 404);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let limited = used(&format!("{TENANTS}{ADDRESS}")).await;
    for path in [
        "/api/limits/none/keys",
        "/api/limits/none/keys/a",
        "/api/limits/tenants/keys/z",
        "/api/limits/tenants",
        "/api/limits/tenants/keys/a/b",
    ] {
        assert_eq!(ask(&limited, "GET", path).await.refusal().0, 404, "{path}");
    }
    assert_eq!(ask(&limited, "POST", "/api/limits").await.status, 405);
    assert_eq!(
        ask(&limited, "DELETE", "/api/limits/tenants/keys")
            .await
            .header("allow"),
        Some("GET, HEAD")
    );
}

#[tokio::test]
async fn what_is_in_flight_is_not_forgotten() {
    let origin = Streams::start().await;
    let limited = Limited::start(&format!(
        "[routes.all]\nupstream = '{}'\nrate_limits = ['slots']\n\
         [rate_limits.slots]\nkey = 'client_ip'\nquota = 1\nalgorithm = 'concurrency'\n",
        origin.server.url()
    ));
    let mut client = Raw::connect(limited.gateway.address()).await;
    client.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let feed = origin.feed().await;
    let refusal = ask(&limited, "DELETE", "/api/limits/slots/keys/127.0.0.1").await;
    assert_eq!(refusal.refusal(), (409, "admin.limit_held".to_owned()));
    assert_eq!(limited.get().await.status, 429);
    release(feed).await;
    assert_eq!(client.answer().await.status, 200);
}
