//! A web server that publishes keys over TLS.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

const MADE: &str = "a certificate that was just made works";

/// What it answers.
#[derive(Debug, Clone)]
pub enum Answer {
    /// This document.
    Document(String),
    /// This status, and nothing else.
    Status(u16),
    /// Somewhere else.
    Redirect(String),
    /// Nothing, and the connection stays open.
    Silence,
}

#[derive(Debug)]
struct State {
    answer: Mutex<Answer>,
    requests: Mutex<Vec<String>>,
}

/// An identity provider on 127.0.0.1, as `localhost`.
#[derive(Debug)]
pub struct Provider {
    address: SocketAddr,
    authority_pem: Vec<u8>,
    state: Arc<State>,
}

impl Provider {
    /// Publishes these keys.
    ///
    /// # Errors
    /// Those of the operating system.
    pub async fn start(keys: Vec<Value>) -> std::io::Result<Self> {
        let (authority_pem, acceptor) = tls();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let answer = Mutex::new(document(keys));
        let state = Arc::new(State { answer, requests: Mutex::default() });
        tokio::spawn(serve(listener, acceptor, Arc::clone(&state)));
        Ok(Self { address, authority_pem, state })
    }

    /// Where its keys are.
    pub fn url(&self) -> String {
        format!("https://localhost:{}/keys", self.address.port())
    }

    /// The certificate of the authority that vouches for it.
    pub fn authority_pem(&self) -> Vec<u8> {
        self.authority_pem.clone()
    }

    /// Publishes other keys.
    pub fn publish(&self, keys: Vec<Value>) {
        self.answer(document(keys));
    }

    /// Answers otherwise from now on.
    pub fn answer(&self, answer: Answer) {
        *self.state.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// How often it was asked.
    pub fn requests(&self) -> usize {
        self.state.requests.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

fn document(keys: Vec<Value>) -> Answer {
    Answer::Document(json!({"keys": keys}).to_string())
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { return };
                request.push(byte);
            }
            state
                .requests
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(String::from_utf8_lossy(&request).into_owned());
            let answer = state.answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let response = match answer {
                Answer::Document(body) => {
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
                }
                Answer::Status(status) => format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n"),
                Answer::Redirect(to) => {
                    format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n")
                }
                Answer::Silence => std::future::pending().await,
            };
            // A client that went away is one of the cases.
            let _ = stream.write_all(response.as_bytes()).await;
            let _ = stream.shutdown().await;
        });
    }
}

/// A certificate authority, and a server with a certificate of it for `localhost`.
fn tls() -> (Vec<u8>, TlsAcceptor) {
    let mut authority = CertificateParams::new(Vec::new()).expect(MADE);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect(MADE)).expect(MADE);
    let key = KeyPair::generate().expect(MADE);
    let names = CertificateParams::new(["localhost".to_owned()]).expect(MADE);
    let certificate = names.signed_by(&key, &authority).expect(MADE);
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect(MADE)
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect(MADE);
    (authority.pem().into(), TlsAcceptor::from(Arc::new(config)))
}
