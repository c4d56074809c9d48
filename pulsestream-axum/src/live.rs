//! Live connections end with the credential that opened them.

use std::time::Duration;

use axum::http::HeaderMap;
use pulsestream_core::auth::Action;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::auth::{Credential, Credentials};

use crate::access::Caller;
use crate::app::App;
use crate::credentials::{self, Preference};

/// How often a credential is looked at again, so that one that was revoked ends its connections.
pub(crate) const RECHECK: Duration = Duration::from_secs(15);
/// How long a connection that was opened with a ticket lives: the ticket itself ends within seconds and cannot be looked at again.
const TICKET_LIFE: Duration = Duration::from_secs(600);

/// Whether the caller of a connection that stays open may still be there.
pub(crate) struct Standing {
    app: App,
    caller: Caller,
    action: Action,
    credentials: Credentials,
    checked_at: Duration,
    opened_at: Duration,
}

impl Standing {
    /// Starts with a caller who was admitted just now; `headers` are those of the request.
    pub(crate) fn new(app: App, caller: Caller, action: Action, headers: &HeaderMap) -> Self {
        let credential = credentials::of(headers, Preference::ApiKey);
        let now = app.ps.env().monotonic();
        let credentials = Credentials { credential, origin: caller.origin.clone() };
        Self { app, caller, action, credentials, checked_at: now, opened_at: now }
    }

    /// Returns the tenant.
    pub(crate) fn tenant(&self) -> TenantId {
        self.caller.tenant()
    }

    /// Returns whether the caller may do something else too.
    pub(crate) fn allows(&self, action: Action) -> bool {
        self.caller.principal.allows(action)
    }

    /// Returns whether the credential is still good; it is looked at again from time to time.
    pub(crate) async fn lasts(&mut self) -> bool {
        let env = self.app.ps.env();
        let now = env.monotonic();
        if matches!(self.credentials.credential, Credential::Missing) {
            return now.saturating_sub(self.opened_at) < TICKET_LIFE;
        }
        if self.caller.principal.expires_at.is_some_and(|end| end <= env.now()) {
            return false;
        }
        if now.saturating_sub(self.checked_at) < RECHECK {
            return true;
        }
        self.checked_at = now;
        let again = self.app.ps.tenant_auth().authenticate(&self.credentials).await;
        again.is_ok_and(|principal| principal.tenant == self.caller.tenant() && principal.allows(self.action))
    }
}
