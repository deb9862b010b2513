//! `rediss://`.

use tempfile::TempDir;

use super::{Counts, degraded, limited_by, storm};
use crate::support::{Authority, Gateway, RedisCluster, RedisServer, free_port};

/// An authority of its own, and a certificate for servers on loopback, in files.
struct Certified {
    directory: TempDir,
    ca: String,
    certificate: String,
    key: String,
}

impl Certified {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name).display().to_string();
        let (ca, certificate, key) = (file("ca.pem"), file("redis.pem"), file("key.pem"));
        let authority = Authority::new();
        authority.write(ca.as_ref());
        authority.write_pair("127.0.0.1", certificate.as_ref(), key.as_ref());
        Self {
            directory,
            ca,
            certificate,
            key,
        }
    }

    /// A server with that certificate, and the port where it speaks TLS.
    fn server(&self, more: &[&str]) -> (RedisServer, u16) {
        let port = free_port();
        let tls_port = port.to_string();
        let tls: &[&str] = &[
            "--tls-port",
            &tls_port,
            "--tls-cert-file",
            &self.certificate,
            "--tls-key-file",
            &self.key,
            "--tls-ca-cert-file",
            &self.ca,
            "--tls-auth-clients",
            "no",
        ];
        (RedisServer::with(&[tls, more].concat()), port)
    }
}

#[tokio::test]
async fn over_tls_redis_is_who_its_certificate_says() {
    let certified = Certified::new();
    let (_redis, port) = certified.server(&["--requirepass", "s3cret"]);
    let start = |trust: &str| {
        Gateway::start(&format!(
            "[redis]\nurl = 'rediss://:s3cret@127.0.0.1:{port}'\ntimeout = '2s'\n{trust}\n\
             [routes.all]\nrespond = {{}}\nrate_limits = ['one']\n\
             [rate_limits.one]\nkey = 'client_ip'\nquota = '5/1d'\nstore = 'redis'",
        ))
    };
    let trusting = start(&format!("ca_file = '{}'", certified.ca));
    let counts = storm(&[trusting.address()], 1, 10).await;
    assert_eq!(counts, Counts::from([(200, 5), (429, 5)]));
    assert_eq!(degraded(&trusting), 0.0);
    let other = certified.directory.path().join("other.pem");
    Authority::new().write(&other);
    for trust in [String::new(), format!("ca_file = '{}'", other.display())] {
        let gateway = start(&trust);
        storm(&[gateway.address()], 1, 3).await;
        assert_eq!(degraded(&gateway), 3.0, "nobody else is believed");
    }
}

#[tokio::test]
async fn a_cluster_over_tls_counts_each_key_on_its_node() {
    let certified = Certified::new();
    // The nodes speak TLS among themselves, too, and tell clients that speak it where others do. The ports
    // without are for the test's own questions.
    let with = ["--cluster-enabled", "yes", "--tls-cluster", "yes"];
    let with = [&with[..], &["--cluster-node-timeout", "2000"]].concat();
    let node = || certified.server(&with);
    let (nodes, ports): (Vec<_>, Vec<_>) = std::iter::repeat_with(node).take(3).unzip();
    let how = ["--tls", "--cacert", &certified.ca];
    let _cluster = RedisCluster::joined(nodes, &ports, &how).await;
    let url = |port: &u16| format!("'rediss://127.0.0.1:{port}'");
    let urls: Vec<_> = ports.iter().map(url).collect();
    let (urls, ca) = (urls.join(", "), &certified.ca);
    let redis = format!("[{urls}]\ntimeout = '2s'\nca_file = '{ca}'");
    let tables = "[rate_limits.all]\nkey = 'route'\nquota = '400/1d'\nstore = 'redis'\n\
                  [rate_limits.one]\nkey = 'client_ip'\nquota = '100/1d'\nstore = 'redis'";
    let start = || limited_by(&redis, tables, "['all', 'one']");
    let gateways = [start(), start()];
    let places: Vec<_> = gateways.iter().map(Gateway::address).collect();
    let counts = storm(&places, 5, 30).await;
    assert_eq!(counts, Counts::from([(200, 100), (429, 200)]));
    assert_eq!(gateways.iter().map(degraded).sum::<f64>(), 0.0);
}
