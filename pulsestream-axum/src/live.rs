//! The live connections of this process, counted by tenant and limited.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use pulsestream_core::id::TenantId;
use pulsestream_core::{Error, ErrorKind};

use crate::failure::Answer;

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
