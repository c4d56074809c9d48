//! The guard that the notifiers share: who may send where.

use std::collections::HashMap;
use std::sync::Arc;

use pulsestream_core::Result;
use pulsestream_core::id::TenantId;
use url::Url;

use super::policy::EgressPolicy;
use super::resolve::{CheckedTarget, Resolve, SystemResolver, check_place, check_url};

/// Decides where each tenant's notifications may go: one policy for all, and policies of their own for some.
#[derive(Debug, Clone)]
pub struct EgressGuard {
    policy: Arc<EgressPolicy>,
    tenants: HashMap<TenantId, Arc<EgressPolicy>>,
    resolver: Arc<dyn Resolve>,
}

impl EgressGuard {
    /// Creates a guard with one policy for all tenants, which looks names up as the operating system does.
    pub fn new(policy: EgressPolicy) -> Self {
        Self { policy: Arc::new(policy), tenants: HashMap::new(), resolver: Arc::new(SystemResolver) }
    }

    /// Gives a tenant a policy of its own, in place of the one for all.
    #[must_use]
    pub fn with_tenant_policy(mut self, tenant: TenantId, policy: EgressPolicy) -> Self {
        self.tenants.insert(tenant, Arc::new(policy));
        self
    }

    /// Looks names up with `resolver`.
    #[must_use]
    pub fn with_resolver(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.resolver = resolver;
        self
    }

    /// Returns the policy that holds for a tenant.
    pub fn policy(&self, tenant: TenantId) -> &Arc<EgressPolicy> {
        self.tenants.get(&tenant).unwrap_or(&self.policy)
    }

    /// Decides whether a request of `tenant` may go to `url`, and where exactly. Looks the name up.
    ///
    /// # Errors
    /// Those of [`check_url`].
    pub async fn check(&self, tenant: TenantId, url: &str) -> Result<CheckedTarget> {
        check_url(url, self.policy(tenant), &*self.resolver).await
    }

    /// Checks what can be checked without a look-up and without knowing the tenant: refuses what every policy refuses.
    ///
    /// # Errors
    /// `Invalid` when the URL itself is not allowed, `Forbidden` when its port or its literal address is not.
    pub fn validate(&self, url: &str) -> Result<()> {
        let for_all = check_place(url, &self.policy).map(drop);
        if for_all.is_ok() || self.tenants.values().any(|policy| check_place(url, policy).is_ok()) {
            return Ok(());
        }
        for_all
    }

    /// Checks a request of `tenant` as far as that is possible without a look-up.
    pub(crate) fn check_place(&self, tenant: TenantId, url: &str) -> Result<Url> {
        check_place(url, self.policy(tenant)).map(|(url, _)| url)
    }

    /// Returns the policy that holds for tenants without one of their own.
    pub(crate) fn default_policy(&self) -> &Arc<EgressPolicy> {
        &self.policy
    }

    /// Returns the policies of single tenants.
    pub(crate) fn tenant_policies(&self) -> impl Iterator<Item = (TenantId, &Arc<EgressPolicy>)> {
        self.tenants.iter().map(|(tenant, policy)| (*tenant, policy))
    }

    pub(crate) fn resolver(&self) -> &Arc<dyn Resolve> {
        &self.resolver
    }
}
