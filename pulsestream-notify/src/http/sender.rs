//! One HTTP request through the outbound guard.

use std::collections::HashMap;
use std::error::Error as _;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pulsestream_core::env::Env;
use pulsestream_core::id::TenantId;
use pulsestream_core::time::Timestamp;
use pulsestream_core::{Error, ErrorKind, Result};
use reqwest::dns::{Addrs, Name, Resolving};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Response, StatusCode};

use super::config::HttpConfig;
use super::permits::Permits;
use crate::egress::{EgressGuard, EgressPolicy, Resolve, look_up};

const OPERATION: &str = "notify.post";
/// How long the text of an answer may take once its head is there; the head decides the outcome.
const BODY_TIME: Duration = Duration::from_secs(2);
/// How much of an answer is kept, to be shown.
const KEPT_BYTES: usize = 4_096;
const MAX_ANSWER_HEADERS: usize = 100;

/// A request to be made.
pub(crate) struct Outgoing<'a> {
    pub(crate) tenant: TenantId,
    pub(crate) url: &'a str,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// What came of it.
pub(crate) struct Exchange {
    pub(crate) result: Result<Received>,
    pub(crate) latency: Duration,
}

/// The answer, as far as it is needed.
pub(crate) struct Received {
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<String>,
    pub(crate) content_type: Option<String>,
    /// The start of the text.
    pub(crate) body: Vec<u8>,
}

/// Makes requests: to checked addresses only, within a deadline, a few at a time.
pub(crate) struct HttpSender {
    guard: EgressGuard,
    config: HttpConfig,
    env: Env,
    /// One client for each policy, because the client looks names up and must know what is allowed.
    client: Client,
    tenant_clients: HashMap<TenantId, Client>,
    hosts: Permits<String>,
    tenants: Permits<(TenantId, String)>,
}

impl HttpSender {
    pub(crate) fn new(guard: EgressGuard, config: HttpConfig, env: Env) -> Result<Self> {
        config.validate()?;
        let client = client(&guard, guard.default_policy(), &config)?;
        let tenant_clients = guard
            .tenant_policies()
            .map(|(tenant, policy)| Ok((tenant, self::client(&guard, policy, &config)?)))
            .collect::<Result<_>>()?;
        let (hosts, tenants) =
            (Permits::new(config.max_per_host), Permits::new(config.max_per_host_and_tenant));
        Ok(Self { guard, config, env, client, tenant_clients, hosts, tenants })
    }

    pub(crate) fn guard(&self) -> &EgressGuard {
        &self.guard
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.env.now()
    }

    /// Makes a POST request. The error has no secret in it.
    pub(crate) async fn post(&self, outgoing: Outgoing<'_>) -> Exchange {
        let start = self.env.monotonic();
        let result = match tokio::time::timeout(self.config.deadline, self.exchange(outgoing)).await {
            Ok(result) => result,
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                OPERATION,
                "the receiver did not answer within the deadline",
            )),
        };
        Exchange { result, latency: self.env.monotonic().saturating_sub(start) }
    }

    async fn exchange(&self, outgoing: Outgoing<'_>) -> Result<Received> {
        let url = self.guard.check_place(outgoing.tenant, outgoing.url)?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let _tenant_permit = self.tenants.acquire((outgoing.tenant, host.clone())).await;
        let _host_permit = self.hosts.acquire(host).await;
        let client = self.tenant_clients.get(&outgoing.tenant).unwrap_or(&self.client);
        let request = client.post(url).headers(outgoing.headers).body(outgoing.body);
        let response = request.send().await.map_err(|error| reason(OPERATION, error))?;
        Ok(self.read(response).await)
    }

    /// Reads the head and the start of the text. A text that is slow, cut or endless does not change what the head said.
    async fn read(&self, mut response: Response) -> Received {
        let header =
            |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut received = Received {
            status: response.status(),
            retry_after: header(RETRY_AFTER),
            content_type: header(CONTENT_TYPE),
            body: Vec::new(),
        };
        let reading = async {
            let mut bytes = 0_usize;
            while bytes < self.config.max_response_bytes
                && let Ok(Some(chunk)) = response.chunk().await
            {
                bytes += chunk.len();
                let room = KEPT_BYTES.saturating_sub(received.body.len()).min(chunk.len());
                received.body.extend_from_slice(&chunk[..room]);
            }
        };
        // Whether the text ended in time or not, what is there is enough.
        let _ = tokio::time::timeout(BODY_TIME, reading).await;
        received
    }
}

impl fmt::Debug for HttpSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSender")
            .field("guard", &self.guard)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

pub(super) fn client(guard: &EgressGuard, policy: &Arc<EgressPolicy>, config: &HttpConfig) -> Result<Client> {
    let broken = |error: reqwest::Error| {
        Error::new(ErrorKind::Unavailable, "notify.open", "TLS cannot be set up").with_source(error)
    };
    let mut certificates = Vec::with_capacity(config.extra_root_certificates.len());
    for certificate in &config.extra_root_certificates {
        let read =
            if certificate.starts_with(b"-----") { Certificate::from_pem } else { Certificate::from_der };
        certificates.push(read(certificate).map_err(broken)?);
    }
    Client::builder()
        .user_agent(concat!("PulseStream/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .referer(false)
        .no_proxy()
        .retry(reqwest::retry::never())
        .dns_resolver(GuardedResolver { policy: policy.clone(), resolver: guard.resolver().clone() })
        .connect_timeout(config.connect_timeout)
        // A connection of its own for each attempt: a kept one may be dead, and then a page is late.
        .pool_max_idle_per_host(0)
        .http1_only()
        .http1_max_headers(MAX_ANSWER_HEADERS)
        .tls_certs_merge(certificates)
        .build()
        .map_err(broken)
}

/// Looks names up for connections and lets only checked answers through: there is no second look-up that could differ.
struct GuardedResolver {
    policy: Arc<EgressPolicy>,
    resolver: Arc<dyn Resolve>,
}

impl reqwest::dns::Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (policy, resolver) = (self.policy.clone(), self.resolver.clone());
        Box::pin(async move {
            let addresses = look_up(name.as_str(), &policy, &*resolver).await?;
            // Port 0 stands for the port of the URL, which was checked.
            let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}

/// Says why there is no answer, in words that do not tell a closed port from a silent one, nor repeat the URL.
pub(super) fn reason(operation: &'static str, error: reqwest::Error) -> Error {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(refused) = inner.downcast_ref::<Error>() {
            return Error::new(refused.kind(), operation, refused.message().to_owned())
                .with_retry(refused.retry());
        }
        cause = inner.source();
    }
    let what = if error.is_connect() {
        "no connection to the receiver"
    } else if error.is_builder() {
        "the request cannot be made"
    } else {
        "the connection ended before there was an answer"
    };
    let error = error.without_url();
    tracing::debug!(error = ?error, "{what}");
    Error::new(ErrorKind::Unavailable, operation, what).with_source(error)
}
