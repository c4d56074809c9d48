//! A mail server for tests: EHLO, STARTTLS, AUTH PLAIN and LOGIN, MAIL, RCPT, DATA, and refusals on request.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test that uses it")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A certificate authority and a certificate of it for a name.
#[allow(missing_debug_implementations, reason = "an acceptor has none")]
pub struct TestTls {
    /// The authority, for clients that are to trust it.
    pub authority_pem: Vec<u8>,
    acceptor: TlsAcceptor,
}

impl TestTls {
    /// Makes both.
    ///
    /// # Panics
    /// When there is no randomness.
    pub fn new(name: &str) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Self { authority_pem: authority.pem().into(), acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    /// Returns what a server speaks TLS with.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }
}

/// How the server behaves.
#[derive(Clone, Default)]
#[allow(missing_debug_implementations, reason = "an acceptor has none")]
pub struct SmtpRules {
    /// TLS from the first byte.
    pub tls: Option<TlsAcceptor>,
    /// Offers STARTTLS.
    pub starttls: Option<TlsAcceptor>,
    /// Takes mail from this user only.
    pub login: Option<(&'static str, &'static str)>,
    /// Offers only this mechanism.
    pub mechanism: Option<&'static str>,
    /// Answers commands that start with the first text with the second.
    pub answers: Vec<(&'static str, &'static str)>,
    /// Says nothing after commands that start with this text.
    pub silent_after: Option<&'static str>,
    /// Agrees to STARTTLS and says nothing in the handshake.
    pub is_silent_in_handshake: bool,
}

/// A message as it was taken.
#[derive(Debug, Clone, Default)]
pub struct Mail {
    /// The command with the sender.
    pub from: String,
    /// The recipients.
    pub to: Vec<String>,
    /// Head and body.
    pub data: String,
    /// Whether it came over TLS.
    pub over_tls: bool,
    /// Who had logged in.
    pub user: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    mails: Mutex<Vec<Mail>>,
    commands: Mutex<Vec<String>>,
    silenced: Option<watch::Sender<bool>>,
}

/// A mail server on 127.0.0.1.
#[derive(Debug)]
pub struct SmtpServer {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
}

impl SmtpServer {
    /// Starts it on the present runtime.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start(rules: SmtpRules) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { silenced: Some(watch::channel(false).0), ..State::default() });
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(accept(stream, rules.clone(), shared.clone()));
            }
        });
        Self { address, state }
    }

    /// Returns the messages that it took.
    ///
    /// # Panics
    /// When the server did.
    pub fn mails(&self) -> Vec<Mail> {
        self.state.mails.lock().unwrap().clone()
    }

    /// Returns every command line that came, with passwords as they were sent.
    ///
    /// # Panics
    /// When the server did.
    pub fn commands(&self) -> Vec<String> {
        self.state.commands.lock().unwrap().clone()
    }

    /// Waits until the server has fallen silent.
    ///
    /// # Panics
    /// Never, while the server lives.
    pub async fn silenced(&self) {
        let silenced = self.state.silenced.as_ref().unwrap();
        silenced.subscribe().wait_for(|is_silent| *is_silent).await.unwrap();
    }
}

async fn accept(stream: TcpStream, rules: SmtpRules, state: Arc<State>) {
    match rules.tls.clone() {
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                let _ = Session::new(stream, &rules, &state, true).run(true).await;
            }
        }
        None => {
            let mut session = Session::new(stream, &rules, &state, false);
            if session.run(true).await != Some(End::StartTls) {
                return;
            }
            if rules.is_silent_in_handshake {
                session.hear_and_say_nothing().await;
            } else if let Some(tls) = &rules.starttls
                && let Ok(stream) = tls.accept(session.stream.into_inner()).await
            {
                let _ = Session::new(stream, &rules, &state, true).run(false).await;
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Quit,
    StartTls,
}

struct Session<'a, S> {
    stream: BufReader<S>,
    rules: &'a SmtpRules,
    state: &'a State,
    mail: Mail,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Session<'a, S> {
    fn new(stream: S, rules: &'a SmtpRules, state: &'a State, over_tls: bool) -> Self {
        let mail = Mail { over_tls, ..Mail::default() };
        Self { stream: BufReader::new(stream), rules, state, mail }
    }

    /// Returns how the conversation ended, `None` when the client went away.
    async fn run(&mut self, greets: bool) -> Option<End> {
        if greets {
            let greeting = self.scripted("greeting").unwrap_or("220 localhost ESMTP");
            self.say(greeting).await?;
        }
        loop {
            let line = self.line().await?;
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            if self.rules.silent_after.is_some_and(|start| line.starts_with(start)) {
                self.hear_and_say_nothing().await;
                return None;
            }
            if let Some(answer) = self.scripted(&line) {
                self.say(answer).await?;
                continue;
            }
            match verb.as_str() {
                "EHLO" => self.greet().await?,
                "STARTTLS" if self.rules.starttls.is_some() && !self.mail.over_tls => {
                    self.say("220 go ahead").await?;
                    return Some(End::StartTls);
                }
                "AUTH" => self.log_in(&line).await?,
                "MAIL" if self.rules.login.is_some() && self.mail.user.is_none() => {
                    self.say("530 5.7.0 authentication required").await?;
                }
                "MAIL" => {
                    self.mail.from = line;
                    self.mail.to.clear();
                    self.say("250 ok").await?;
                }
                "RCPT" => {
                    let address = line.trim_start_matches("RCPT TO:<").trim_end_matches('>');
                    self.mail.to.push(address.to_owned());
                    self.say("250 ok").await?;
                }
                "DATA" => self.take().await?,
                "RSET" | "NOOP" => self.say("250 ok").await?,
                "QUIT" => {
                    self.say("221 bye").await?;
                    return Some(End::Quit);
                }
                _ => self.say("502 5.5.1 not implemented").await?,
            }
        }
    }

    /// Reads until the client goes.
    async fn hear_and_say_nothing(&mut self) {
        self.state.silenced.as_ref().unwrap().send_replace(true);
        let _ = tokio::io::copy(&mut self.stream, &mut tokio::io::sink()).await;
    }

    async fn greet(&mut self) -> Option<()> {
        let mut lines = vec!["localhost".to_owned(), "8BITMIME".into(), "SMTPUTF8".into()];
        if self.rules.starttls.is_some() && !self.mail.over_tls {
            lines.push("STARTTLS".into());
        }
        if self.rules.login.is_some() {
            lines.push(format!("AUTH {}", self.rules.mechanism.unwrap_or("PLAIN LOGIN")));
        }
        let last = lines.pop().unwrap_or_default();
        for line in lines {
            self.say(&format!("250-{line}")).await?;
        }
        self.say(&format!("250 {last}")).await
    }

    async fn log_in(&mut self, line: &str) -> Option<()> {
        let decode =
            |text: &str| String::from_utf8(STANDARD.decode(text).unwrap_or_default()).unwrap_or_default();
        let mut words = line.split(' ').skip(1);
        let (user, password) = match words.next() {
            Some("PLAIN") => {
                let given = decode(words.next().unwrap_or_default());
                let mut parts = given.split('\0').skip(1).map(str::to_owned);
                (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
            }
            _ => {
                self.say("334 VXNlcm5hbWU6").await?;
                let user = decode(&self.line().await?);
                self.say("334 UGFzc3dvcmQ6").await?;
                (user, decode(&self.line().await?))
            }
        };
        if self.rules.login == Some((&user, &password)) {
            self.mail.user = Some(user);
            self.say("235 2.7.0 welcome").await
        } else {
            // A server that says too much.
            self.say(&format!("535 5.7.8 wrong: {user} {password} {}", STANDARD.encode(&password))).await
        }
    }

    async fn take(&mut self) -> Option<()> {
        self.say("354 go ahead").await?;
        self.mail.data.clear();
        loop {
            let line = self.line().await?;
            if line == "." {
                break;
            }
            self.mail.data.push_str(line.strip_prefix('.').unwrap_or(&line));
            self.mail.data.push_str("\r\n");
        }
        if let Some(answer) = self.scripted("end of data") {
            return self.say(answer).await;
        }
        self.state.mails.lock().unwrap().push(self.mail.clone());
        self.say("250 2.0.0 queued as 42").await
    }

    fn scripted(&self, line: &str) -> Option<&'static str> {
        let mut answers = self.rules.answers.iter();
        answers.find(|(start, _)| line.starts_with(start)).map(|(_, answer)| *answer)
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end_matches(['\r', '\n']).to_owned();
        self.state.commands.lock().unwrap().push(line.clone());
        Some(line)
    }

    async fn say(&mut self, line: &str) -> Option<()> {
        self.stream.write_all(format!("{line}\r\n").as_bytes()).await.ok()?;
        self.stream.flush().await.ok()
    }
}
