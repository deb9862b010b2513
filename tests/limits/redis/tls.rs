//! `rediss://`.

use super::{Counts, degraded, storm};
use crate::support::{Authority, Gateway, RedisServer, free_port};

#[tokio::test]
async fn over_tls_redis_is_who_its_certificate_says() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).display().to_string();
    let authority = Authority::new();
    let (ca, certificate, key) = (file("ca.pem"), file("redis.pem"), file("key.pem"));
    authority.write(ca.as_ref());
    authority.write_pair("127.0.0.1", certificate.as_ref(), key.as_ref());
    let port = free_port();
    let _redis = RedisServer::with(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-auth-clients",
        "no",
        "--requirepass",
        "s3cret",
    ]);
    let start = |trust: &str| {
        Gateway::start(&format!(
            "[redis]\nurl = 'rediss://:s3cret@127.0.0.1:{port}'\ntimeout = '2s'\n{trust}\n\
             [routes.all]\nrespond = {{}}\nrate_limits = ['one']\n\
             [rate_limits.one]\nkey = 'client_ip'\nquota = '5/1d'\nstore = 'redis'",
        ))
    };
    let trusting = start(&format!("ca_file = '{ca}'"));
    let counts = storm(&[trusting.address()], 1, 10).await;
    assert_eq!(counts, Counts::from([(200, 5), (429, 5)]));
    assert_eq!(degraded(&trusting), 0.0);
    let other = file("other.pem");
    Authority::new().write(other.as_ref());
    for trust in [String::new(), format!("ca_file = '{other}'")] {
        let gateway = start(&trust);
        storm(&[gateway.address()], 1, 3).await;
        assert_eq!(degraded(&gateway), 3.0, "nobody else is believed");
    }
}
