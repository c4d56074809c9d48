//! From the tenant's name in a token to the tenant.

use std::fmt;

use async_trait::async_trait;
use pulsestream_core::Result;
use pulsestream_core::id::TenantId;

/// Says which tenant a token means. Implement it where the application knows its tenants by names of its own.
#[async_trait]
pub trait ResolveTenant: fmt::Debug + Send + Sync + 'static {
    /// Returns the tenant that the provider calls `name`, from a token that is genuine; `None` when there is none, or none that may be
    /// used now.
    ///
    /// # Contract
    /// - The same name means the same tenant for ever: a tenant's data must not pass to whoever takes its name
    ///   (`a_token_opens_its_own_tenant`).
    ///
    /// # Errors
    /// `Unavailable` when that cannot be found out now.
    async fn tenant(&self, name: &str) -> Result<Option<TenantId>>;
}

/// The claim is the tenant's id.
#[derive(Debug, Clone, Copy, Default)]
pub struct TenantsById;

#[async_trait]
impl ResolveTenant for TenantsById {
    async fn tenant(&self, name: &str) -> Result<Option<TenantId>> {
        Ok(name.parse().ok())
    }
}

/// The claim is a name that the provider never gives to another tenant; the id is derived from it, see [`TenantId::from_name`].
#[derive(Debug, Clone, Copy, Default)]
pub struct TenantsByName;

#[async_trait]
impl ResolveTenant for TenantsByName {
    async fn tenant(&self, name: &str) -> Result<Option<TenantId>> {
        Ok(Some(TenantId::from_name(name)))
    }
}
