//! The limits of each tenant's own, remembered for a while.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use pulsestream_core::ErrorKind;
use pulsestream_core::id::TenantId;
use pulsestream_core::ingest::TenantLimits;
use pulsestream_core::ports::rate_limiter::RateLimit;

use crate::app::App;
use crate::failure::Answer;

/// For how long limits are remembered.
const MAX_AGE: Duration = Duration::from_secs(30);
/// How many tenants' limits are remembered.
const MAX_TENANTS: usize = 10_000;

/// What is remembered.
#[derive(Debug, Default)]
pub(crate) struct LimitCache(RwLock<HashMap<TenantId, (Duration, TenantLimits)>>);

impl App {
    /// Returns the limits of a tenant. What an operator set for it counts; a tenant that has the numbers every new tenant gets
    /// follows the settings, and so does a tenant of the host application, which has no account here.
    pub(crate) async fn tenant_limits(&self, tenant: TenantId) -> Answer<TenantLimits> {
        if !self.config.accounts {
            return Ok(TenantLimits::default());
        }
        let now = self.ps.env().monotonic();
        let remembered = self.limits.0.read().unwrap_or_else(PoisonError::into_inner).get(&tenant).copied();
        if let Some((at, limits)) = remembered
            && now.saturating_sub(at) < MAX_AGE
        {
            return Ok(limits);
        }
        let limits = match self.ps.accounts().tenant_limits(tenant).await {
            Ok((per_minute, per_month)) => self.own_limits(per_minute, per_month)?,
            Err(error) if error.kind() == ErrorKind::NotFound => TenantLimits::default(),
            Err(error) => return Err(error.into()),
        };
        let mut cache = self.limits.0.write().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= MAX_TENANTS {
            cache.clear();
        }
        cache.insert(tenant, (now, limits));
        Ok(limits)
    }

    fn own_limits(&self, per_minute: u32, per_month: u64) -> Answer<TenantLimits> {
        let defaults = self.ps.accounts().settings();
        let own_rate = (per_minute != defaults.default_rate_limit_per_minute).then_some(per_minute);
        let rate = own_rate.map(|rate| RateLimit::per_minute(rate, rate.saturating_mul(2))).transpose()?;
        let own_month = (per_month != defaults.default_max_events_per_month).then_some(per_month);
        Ok(TenantLimits { rate_limit: rate, max_events_per_month: own_month })
    }
}
