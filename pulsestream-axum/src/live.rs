//! The live connections of this process: counted by tenant, limited, and ended with the credential that opened them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use pulsestream_core::auth::Action;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::auth::{Credential, Credentials};
use pulsestream_core::{Error, ErrorKind};

use crate::access::Caller;
use crate::app::App;
use crate::credentials::{self, Preference};
use crate::failure::Answer;

/// How often a credential is looked at again, so that one that was revoked ends its connections.
pub(crate) const RECHECK: Duration = Duration::from_secs(15);
/// How long a connection that was opened with a ticket lives: the ticket itself ends within seconds and cannot be looked at again.
const TICKET_LIFE: Duration = Duration::from_secs(600);

/// Counts live connections. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct LiveConnections {
    by_tenant: Arc<Mutex<HashMap<TenantId, usize>>>,
    max: usize,
    max_per_tenant: usize,
}

/// One live connection, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Connected {
    connections: LiveConnections,
    tenant: TenantId,
}

impl LiveConnections {
    pub(crate) fn new(max: usize, max_per_tenant: usize) -> Self {
        Self { by_tenant: Arc::default(), max, max_per_tenant }
    }

    /// Counts a connection in, or refuses it with 503.
    pub(crate) fn connect(&self, tenant: TenantId) -> Answer<Connected> {
        let mut by_tenant = self.by_tenant.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, own) =
            (by_tenant.values().sum::<usize>(), by_tenant.get(&tenant).copied().unwrap_or_default());
        if all >= self.max || own >= self.max_per_tenant {
            let message = "there are as many live connections as there may be";
            return Err(Error::new(ErrorKind::Unavailable, "http.live", message).into());
        }
        by_tenant.insert(tenant, own + 1);
        Ok(Connected { connections: self.clone(), tenant })
    }

    /// Returns how many connections a tenant has.
    pub(crate) fn of(&self, tenant: TenantId) -> usize {
        self.by_tenant
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&tenant)
            .copied()
            .unwrap_or_default()
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut by_tenant = self.connections.by_tenant.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_tenant.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                by_tenant.remove(&self.tenant);
            }
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_and_limited() {
        let live = LiveConnections::new(3, 2);
        let tenants = [1, 2].map(TenantId::from_u128);
        let first = live.connect(tenants[0]).unwrap();
        let _second = live.connect(tenants[0]).unwrap();
        assert_eq!(live.connect(tenants[0]).unwrap_err().status().as_u16(), 503);
        let _third = live.connect(tenants[1]).unwrap();
        assert_eq!(live.connect(tenants[1]).unwrap_err().status().as_u16(), 503, "the limit of all");
        drop(first);
        assert_eq!((live.of(tenants[0]), live.of(tenants[1])), (1, 1));
        live.connect(tenants[1]).unwrap();
    }
}
