use std::{io::Write, net::SocketAddr};

use http::StatusCode;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;

const LIMITS: SubrequestLimits = SubrequestLimits {
    deadline: Duration::from_secs(10),
    body: 1000,
};

/// A server that gives each request of a connection the same bytes.
async fn server(answer: String, tls: Option<TlsAcceptor>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (answer, tls) = (answer.clone(), tls.clone());
            tokio::spawn(async move {
                match tls {
                    None => serve(stream, &answer).await,
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => serve(stream, &answer).await,
                        Err(_) => Some(()),
                    },
                }
            });
        }
    });
    address
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) -> Option<()> {
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        while !read.ends_with(b"\r\n\r\n") {
            let length = stream.read(&mut buffer).await.ok().filter(|n| *n > 0)?;
            read.extend_from_slice(&buffer[..length]);
        }
        read.clear();
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

fn answer(head: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn client(config: &config::Subrequests) -> OwnClient {
    OwnClient::new(config, Handle::current())
}

async fn get(
    client: &OwnClient,
    url: &str,
    limits: SubrequestLimits,
) -> Result<Response<Bytes>, SubrequestError> {
    let request = Request::get(url).body(Bytes::new()).unwrap();
    client.send(request, limits).await
}

/// A certificate authority of the test's own, and a server's certificate for a name.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    fn acceptor(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    fn trusted(&self) -> config::Subrequests {
        let certificate: CertificateDer<'static> = self.issuer.der().clone();
        config::Subrequests {
            ca_file: Some(Arc::from([certificate])),
            public_roots: false,
        }
    }
}

#[tokio::test]
async fn an_answer_comes_with_its_status_fields_and_body() {
    let address = server(answer("403 Forbidden\r\nX-A: b", "no"), None).await;
    let client = client(&config::Subrequests::default());
    let response = get(&client, &format!("http://{address}/x"), LIMITS).await;
    let response = response.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(response.headers()["x-a"], "b");
    assert_eq!(&response.body()[..], b"no");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let head = "302 Found\r\nLocation: http://127.0.0.1:1/";
    let address = server(answer(head, ""), None).await;
    let client = client(&config::Subrequests::default());
    let response = get(&client, &format!("http://{address}/"), LIMITS).await;
    assert_eq!(response.unwrap().status(), StatusCode::FOUND);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_whether_its_length_is_told_or_not() {
    let told = "HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n".to_owned();
    let chunk = "200\r\n".to_owned() + &"a".repeat(512) + "\r\n";
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        chunk.repeat(2)
    );
    for answer in [told, chunked] {
        let address = server(answer, None).await;
        let client = client(&config::Subrequests::default());
        let result = get(&client, &format!("http://{address}/"), LIMITS).await;
        assert!(
            matches!(result, Err(SubrequestError::TooLarge)),
            "{result:?}"
        );
    }
}

#[tokio::test]
async fn the_deadline_covers_an_answer_that_never_ends() {
    let unfinished = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_owned();
    let address = server(unfinished, None).await;
    let client = client(&config::Subrequests::default());
    let limits = SubrequestLimits {
        deadline: Duration::from_millis(50),
        ..LIMITS
    };
    let result = get(&client, &format!("http://{address}/"), limits).await;
    assert!(
        matches!(result, Err(SubrequestError::Timeout)),
        "{result:?}"
    );
}

#[tokio::test]
async fn nobody_there_is_a_failure_that_tells_its_cause() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let client = client(&config::Subrequests::default());
    let result = get(&client, &format!("http://{address}/"), LIMITS).await;
    let text = result.unwrap_err().to_string();
    assert!(text.contains("refused"), "{text}");
}

#[tokio::test]
async fn names_are_looked_up() {
    let address = server(answer("200 OK", "ok"), None).await;
    let client = client(&config::Subrequests::default());
    let url = format!("http://localhost:{}/", address.port());
    assert!(get(&client, &url, LIMITS).await.is_ok());
}

#[tokio::test]
async fn https_works_with_an_authority_of_ones_own_and_not_without() {
    let authority = Authority::new();
    let address = server(
        answer("200 OK", "ok"),
        Some(authority.acceptor("localhost")),
    )
    .await;
    let url = format!("https://localhost:{}/", address.port());
    let trusting = client(&authority.trusted());
    assert_eq!(get(&trusting, &url, LIMITS).await.unwrap().body(), "ok");

    let strange = client(&config::Subrequests::default());
    let text = get(&strange, &url, LIMITS).await.unwrap_err().to_string();
    assert!(text.contains("UnknownIssuer"), "{text}");

    strange.reconfigure(&authority.trusted());
    assert!(get(&strange, &url, LIMITS).await.is_ok());
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let acceptor = authority.acceptor("elsewhere.test");
    let address = server(answer("200 OK", "ok"), Some(acceptor)).await;
    let client = client(&authority.trusted());
    let url = format!("https://localhost:{}/", address.port());
    let text = get(&client, &url, LIMITS).await.unwrap_err().to_string();
    assert!(text.contains("not valid for name"), "{text}");
}

#[test]
fn a_ca_file_is_read_with_the_configuration() {
    let authority = Authority::new();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(authority.issuer.pem().as_bytes()).unwrap();
    let text = format!(
        "[subrequests]\nca_file = '{}'\npublic_roots = false\n[routes.all]\nrespond = {{}}\n",
        file.path().display()
    );
    let loaded = config::Config::parse("gateway.toml", &text).unwrap();
    assert_eq!(loaded.config.subrequests, authority.trusted());
    assert!(loaded.files.contains(&file.path().to_owned()));
}
