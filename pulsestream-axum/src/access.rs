//! Who may call what. The guard stands before every handler; a handler never sees a request that it lets not pass.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use pulsestream_core::auth::Action;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::auth::{Credential, Credentials, Origin, Principal};
use pulsestream_core::{Error, ErrorKind};

use crate::app::App;
use crate::client;
use crate::credentials::{self, Preference};
use crate::failure::{Answer, Failure};
use crate::places::Place;

/// Who may call an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Open,
    /// Whoever reads the metrics, as the configuration says.
    Metrics,
    /// A caller that may do this.
    May(Action),
    /// A caller that may do this; a short-lived ticket in the query is a credential too, because browsers cannot set headers of
    /// a WebSocket or an event stream.
    MayWithTicket(Action),
}

impl Access {
    /// Returns what a caller must be allowed to do; `None` when no caller is asked for.
    pub const fn action(self) -> Option<Action> {
        match self {
            Self::Open | Self::Metrics => None,
            Self::May(action) | Self::MayWithTicket(action) => Some(action),
        }
    }
}

/// The authenticated caller of the operation at hand.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    pub(crate) origin: Origin,
}

impl Caller {
    /// Returns the tenant, which is that of the verified credential.
    pub(crate) fn tenant(&self) -> TenantId {
        self.principal.tenant
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Answer<Self> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| {
            Error::new(ErrorKind::Internal, "http.access", "an open operation asks for a caller").into()
        })
    }
}

/// Where the request of an open operation comes from.
#[derive(Debug, Clone)]
pub(crate) struct From(pub(crate) Origin);

impl FromRequestParts<App> for From {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Self::Rejection> {
        Ok(Self(client::origin(parts, &app.config.trusted_proxies)))
    }
}

/// What stands before one operation.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    pub(crate) app: App,
    pub(crate) access: Access,
    pub(crate) index: usize,
}

/// Which row of the table a response comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OperationIndex(pub(crate) usize);

/// Lets a request pass to the handler when its caller may.
pub(crate) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let mut response = match guard.admit(request).await {
        Ok((request, _working)) => next.run(request).await,
        Err(failure) => failure.into_response(),
    };
    response.extensions_mut().insert(OperationIndex(guard.index));
    response
}

impl Guard {
    /// Returns the request with its caller, and the place that its tenant takes while it is worked on.
    async fn admit(&self, request: Request) -> Answer<(Request, Option<Place>)> {
        let action = match self.access {
            Access::Open => return Ok((request, None)),
            Access::Metrics => {
                self.app.admit_to_metrics(request.headers())?;
                return Ok((request, None));
            }
            Access::May(action) | Access::MayWithTicket(action) => action,
        };
        let (mut parts, body) = request.into_parts();
        let caller = self.caller(&parts, action).await?;
        let working = self.app.working.take(caller.tenant())?;
        tracing::Span::current().record("tenant", tracing::field::display(caller.tenant()));
        if self.app.config.accounts {
            self.app.ps.accounts().require(&caller.principal, action, &caller.origin).await?;
        } else {
            caller.principal.require(action)?;
        }
        parts.extensions.insert(caller);
        Ok((Request::from_parts(parts, body), Some(working)))
    }

    async fn caller(&self, parts: &Parts, action: Action) -> Answer<Caller> {
        // What no key may do is about a person, so the token counts when both are there.
        let preference = if action.scope().is_none() { Preference::Bearer } else { Preference::ApiKey };
        let mut credential = credentials::of(&parts.headers, preference);
        if matches!(self.access, Access::MayWithTicket(_))
            && matches!(credential, Credential::Missing)
            && let Some(ticket) = credentials::ticket(parts.uri.query())
        {
            credential = ticket;
        }
        let credentials =
            Credentials { credential, origin: client::origin(parts, &self.app.config.trusted_proxies) };
        let principal = self.app.ps.tenant_auth().authenticate(&credentials).await?;
        Ok(Caller { principal, origin: credentials.origin })
    }
}
