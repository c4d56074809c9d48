//! Places that tenants take and give back: a number for all, and a smaller one for each, so that one cannot take them all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use pulsestream_core::id::TenantId;
use pulsestream_core::{Error, ErrorKind};

use crate::failure::Answer;

/// How many places are taken.
#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_tenant: HashMap<TenantId, usize>,
}

/// Counts places. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    taken: Arc<Mutex<Taken>>,
    max: usize,
    max_per_tenant: usize,
    /// What a tenant is told that gets none.
    refusal: &'static str,
}

/// One place, taken until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    tenant: TenantId,
}

impl Places {
    pub(crate) fn new(max: usize, max_per_tenant: usize, refusal: &'static str) -> Self {
        Self { taken: Arc::default(), max, max_per_tenant, refusal }
    }

    /// Takes a place, or refuses with 503.
    pub(crate) fn take(&self, tenant: TenantId) -> Answer<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.by_tenant.get(&tenant).copied().unwrap_or_default();
        if taken.all >= self.max || own >= self.max_per_tenant {
            return Err(Error::new(ErrorKind::Unavailable, "http.places", self.refusal).into());
        }
        taken.all += 1;
        taken.by_tenant.insert(tenant, own + 1);
        Ok(Place { places: self.clone(), tenant })
    }

    /// Returns how many places a tenant has.
    pub(crate) fn of(&self, tenant: TenantId) -> usize {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.by_tenant.get(&tenant).copied().unwrap_or_default()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(count) = taken.by_tenant.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                taken.by_tenant.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_limited() {
        let places = Places::new(3, 2, "full");
        let tenants = [1, 2].map(TenantId::from_u128);
        let first = places.take(tenants[0]).unwrap();
        let _second = places.take(tenants[0]).unwrap();
        assert_eq!(places.take(tenants[0]).unwrap_err().status().as_u16(), 503);
        let _third = places.take(tenants[1]).unwrap();
        assert_eq!(places.take(tenants[1]).unwrap_err().status().as_u16(), 503, "the limit of all");
        drop(first);
        assert_eq!((places.of(tenants[0]), places.of(tenants[1])), (1, 1));
        places.take(tenants[1]).unwrap();
    }
}
