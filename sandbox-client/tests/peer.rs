//! Servers outside, on this machine's loopback: one speaks TLS as `allowed.test`, one plain HTTP.
//! Each answers with the request's head; `/away` redirects to a private address; `/much` is long;
//! `/stay` does not end, and `/listen` does not begin, but tells when it hears the request's body.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// How much `/much` is.
pub(crate) const MUCH: usize = 8 << 20;
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(crate) struct Peers {
    pub(crate) tls: SocketAddr,
    pub(crate) plain: SocketAddr,
    /// Believes the TLS one.
    pub(crate) trust: Arc<ClientConfig>,
    /// Connections that came.
    pub(crate) n_connections: Arc<AtomicUsize>,
    /// The plain one's `/listen` has heard a part of a request's body.
    pub(crate) heard: Arc<Notify>,
    _serving: JoinSet<()>,
}

impl Peers {
    pub(crate) async fn start() -> Self {
        let (server, trust) = certificates();
        let tls = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
        let plain = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
        let (tls_address, plain_address) = (tls.local_addr().unwrap(), plain.local_addr().unwrap());
        let n_connections = Arc::new(AtomicUsize::new(0));
        let mut serving = JoinSet::new();
        let counted = Arc::clone(&n_connections);
        serving.spawn(async move {
            let acceptor = TlsAcceptor::from(server);
            let heard = Arc::new(Notify::new());
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = tls.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let (acceptor, heard) = (acceptor.clone(), Arc::clone(&heard));
                open.spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, heard).await;
                    }
                });
            }
        });
        let counted = Arc::clone(&n_connections);
        let heard = Arc::new(Notify::new());
        let hearing = Arc::clone(&heard);
        serving.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = plain.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                open.spawn(serve(stream, Arc::clone(&hearing)));
            }
        });
        Self {
            tls: tls_address,
            plain: plain_address,
            trust,
            n_connections,
            heard,
            _serving: serving,
        }
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, heard: Arc<Notify>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap_or_default();
    if path == "/listen" {
        while stream.read_u8().await.is_ok() {
            heard.notify_one();
        }
        return;
    }
    let (status, headers, body) = match path {
        "/away" => ("302 Found", "location: http://10.0.0.1/\r\n", String::new()),
        "/much" => ("200 OK", "", "x".repeat(MUCH)),
        _ => ("200 OK", "", format!("reached with\n{head}")),
    };
    let length = body.len() + usize::from(path == "/stay");
    let answer = format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    // Who has been cut off does not hear the end.
    let _ = stream.write_all(answer.as_bytes()).await;
    if path == "/stay" {
        let _ = stream.read_u8().await;
    }
    let _ = stream.shutdown().await;
}

/// A server's certificate for `allowed.test`, and the trust in who made it.
fn certificates() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = authority.self_signed(&key).unwrap();
    let issuer = Issuer::new(authority, key);
    let own = KeyPair::generate().unwrap();
    let names = vec!["allowed.test".to_owned()];
    let certificate = CertificateParams::new(names).unwrap();
    let certificate = certificate.signed_by(&own, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.serialize_der()));
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(root.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}
