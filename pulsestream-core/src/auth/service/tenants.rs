//! Tenants: registered, shown, changed, deleted.

use super::users::NewUser;
use super::{AuthService, MAX_ATTEMPTS, conflict_error, too_busy};
use crate::auth::base62::push_random;
use crate::auth::permission::{Action, Role, Scopes};
use crate::auth::request::{NewApiKey, RegisterTenant, RegisteredTenant, TenantProfile, TenantUpdate};
use crate::auth::secret::Secret;
use crate::auth::throttle::Purpose;
use crate::auth::validate::Checks;
use crate::error::{Error, ErrorKind, Result};
use crate::event::JsonObject;
use crate::id::TenantId;
use crate::ports::auth::{Origin, Principal};
use crate::ports::identity::{
    ApiKeyRecord, AuditAction, IdentityConflict, IdentityOutcome, IdentityWrite, TenantRecord, TenantStatus,
};

/// Characters of a password that we make up: 119 bits.
const TEMPORARY_PASSWORD_CHARS: usize = 20;
/// The most bytes of a settings object.
const MAX_SETTINGS_BYTES: usize = 64 * 1_024;

/// A tenant in the making, with its first API key.
pub(super) struct NewTenant {
    pub(super) tenant: TenantRecord,
    pub(super) key: NewApiKey,
    pub(super) key_record: ApiKeyRecord,
}

impl AuthService {
    /// Registers a tenant with its first owner and first API key. Open to anybody, unless `open_registration` is off.
    ///
    /// # Errors
    /// `Forbidden` when registration is closed, `Invalid` with every refused field, `Conflict` when the slug is taken,
    /// `RateLimited` when one address registers many.
    pub async fn register_tenant(
        &self,
        request: &RegisterTenant,
        origin: &Origin,
    ) -> Result<RegisteredTenant> {
        const OPERATION: &str = "auth.register_tenant";
        if !self.0.settings.open_registration {
            return Err(Error::new(ErrorKind::Forbidden, OPERATION, "registration is closed"));
        }
        let new = self.draft_tenant(OPERATION, request)?;
        let _counted = self.0.throttle.attempt(Purpose::Registration, &[&new.tenant.slug], origin.address)?;
        let temporary_password = self.temporary_password()?;
        let owner = self.new_user(NewUser {
            email: new.tenant.contact_email.clone(),
            username: None,
            full_name: new.tenant.name.chars().take(100).collect(),
            role: Role::Owner,
            password_hash: self.0.hasher.hash(&temporary_password, &self.0.env).await?,
            password_expires_at: Some(self.0.env.now().plus(self.0.settings.temporary_password_ttl)),
        })?;
        let target = Some(format!("tenant:{}", new.tenant.id));
        let entry =
            self.audit_by(AuditAction::TenantCreated, format!("user:{}", owner.id), target, origin)?;
        let writes = vec![
            IdentityWrite::PutTenant(Box::new(new.tenant.clone())),
            IdentityWrite::PutUser(Box::new(owner.clone())),
            IdentityWrite::PutApiKey(Box::new(new.key_record)),
            IdentityWrite::Audit(entry),
        ];
        self.commit(OPERATION, new.tenant.id, writes).await?;
        Ok(RegisteredTenant {
            tenant: new.tenant.into(),
            api_key: new.key.key,
            owner: owner.into(),
            temporary_password,
        })
    }

    /// Returns the profile of the caller's tenant.
    ///
    /// # Errors
    /// `Forbidden`.
    pub async fn tenant_profile(&self, actor: &Principal, origin: &Origin) -> Result<TenantProfile> {
        self.require(actor, Action::ReadTenant, origin).await?;
        self.tenant_of(actor.tenant, "auth.tenant_profile").await.map(TenantProfile::from)
    }

    /// Changes the profile of the caller's tenant. Slug, plan and limits are not the tenant's to change.
    ///
    /// # Errors
    /// `Forbidden`, `Invalid` with every refused field.
    pub async fn update_tenant(
        &self,
        actor: &Principal,
        update: &TenantUpdate,
        origin: &Origin,
    ) -> Result<TenantProfile> {
        const OPERATION: &str = "auth.update_tenant";
        self.require(actor, Action::WriteTenant, origin).await?;
        let mut checks = Checks::default();
        let name = update.name.as_deref().map(|name| checks.text("/name", name, 2, 255));
        let contact = update.contact_email.as_deref().map(|email| checks.email("/contact_email", email));
        let billing = update.billing_email.as_deref().map(|email| checks.email("/billing_email", email));
        let timezone = update.timezone.as_deref().map(|zone| checks.timezone("/timezone", zone));
        let settings = &update.notification_settings;
        let fits = settings.as_ref().is_none_or(|object| object.as_str().len() <= MAX_SETTINGS_BYTES);
        checks.require(fits, "/notification_settings", "too_large", "must have at most 65536 bytes");
        checks.finish(OPERATION)?;
        self.change_tenant(OPERATION, actor.tenant, |tenant| {
            tenant.name = name.clone().unwrap_or_else(|| std::mem::take(&mut tenant.name));
            tenant.contact_email =
                contact.clone().unwrap_or_else(|| std::mem::take(&mut tenant.contact_email));
            tenant.billing_email = billing.clone().or(tenant.billing_email.take());
            tenant.timezone = timezone.clone().unwrap_or_else(|| std::mem::take(&mut tenant.timezone));
            if let Some(settings) = settings {
                tenant.notification_settings = settings.clone();
            }
            let target = Some(format!("tenant:{}", tenant.id));
            Ok(Some(IdentityWrite::Audit(self.audit(AuditAction::TenantUpdated, actor, target, origin)?)))
        })
        .await
        .map(TenantProfile::from)
    }

    /// Returns the events a tenant may send per minute and per month. For services of this process: it checks no caller.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn tenant_limits(&self, tenant: TenantId) -> Result<(u32, u64)> {
        let tenant = self.tenant_of(tenant, "auth.tenant_limits").await?;
        Ok((tenant.rate_limit_per_minute, tenant.max_events_per_month))
    }

    /// Sets the limits of a tenant, or stops and starts it. For the operator: it checks no caller.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for [`TenantStatus::Deleting`], which only a deletion sets.
    pub async fn set_tenant_limits(
        &self,
        tenant: TenantId,
        rate_limit_per_minute: u32,
        max_events_per_month: u64,
        status: TenantStatus,
    ) -> Result<TenantProfile> {
        const OPERATION: &str = "auth.set_tenant_limits";
        let mut checks = Checks::default();
        let alive = status != TenantStatus::Deleting;
        checks.require(alive, "/status", "not_allowed", "must be active or suspended");
        checks.finish(OPERATION)?;
        let origin = Origin::default();
        self.change_tenant(OPERATION, tenant, |record| {
            if record.status == TenantStatus::Deleting {
                return Err(conflict_error(OPERATION, IdentityConflict::TenantGone));
            }
            record.rate_limit_per_minute = rate_limit_per_minute;
            record.max_events_per_month = max_events_per_month;
            record.status = status;
            let target = Some(format!("tenant:{tenant}"));
            let entry = self.audit_by(AuditAction::TenantUpdated, "operator".to_owned(), target, &origin)?;
            Ok(Some(IdentityWrite::Audit(entry)))
        })
        .await
        .map(TenantProfile::from)
    }

    /// Deletes the caller's tenant with all it has, everywhere: its credentials stop at once, then the deletion hooks run, then
    /// its identities go. After a failure or a crash [`Self::resume_deletions`] finishes.
    ///
    /// # Errors
    /// `Forbidden` for others than an owner, and those of the hooks.
    pub async fn delete_tenant(&self, actor: &Principal, origin: &Origin) -> Result<()> {
        const OPERATION: &str = "auth.delete_tenant";
        self.require(actor, Action::DeleteTenant, origin).await?;
        self.change_tenant(OPERATION, actor.tenant, |tenant| {
            let already = tenant.status == TenantStatus::Deleting;
            tenant.status = TenantStatus::Deleting;
            let target = Some(format!("tenant:{}", tenant.id));
            let entry = self.audit(AuditAction::TenantDeleted, actor, target, origin)?;
            Ok((!already).then_some(IdentityWrite::Audit(entry)))
        })
        .await?;
        tracing::info!(tenant = %actor.tenant, actor = %actor.subject, "a tenant is being deleted");
        self.finish_deletion(actor.tenant).await
    }

    /// Finishes deletions that were interrupted; returns how many. Call it at the start.
    ///
    /// # Errors
    /// Those of the store and the hooks; what was finished before stays so.
    pub async fn resume_deletions(&self) -> Result<usize> {
        const PAGE: usize = 500;
        let (mut after, mut finished) = (None, 0);
        loop {
            let tenants = self.0.store.tenants(after, PAGE).await?;
            let Some(last) = tenants.last() else { return Ok(finished) };
            after = Some(last.id);
            for tenant in tenants.iter().filter(|tenant| tenant.status == TenantStatus::Deleting) {
                self.finish_deletion(tenant.id).await?;
                finished += 1;
            }
        }
    }

    async fn finish_deletion(&self, tenant: TenantId) -> Result<()> {
        for hook in &self.0.deletion_hooks {
            hook.delete_tenant_data(tenant).await?;
        }
        self.0.store.delete_tenant(tenant).await?;
        self.forget_tenant(tenant);
        Ok(())
    }

    /// Reads a tenant, changes it and writes it, again if somebody else changed it meanwhile. `change` may add a write.
    async fn change_tenant(
        &self,
        operation: &'static str,
        tenant: TenantId,
        mut change: impl FnMut(&mut TenantRecord) -> Result<Option<IdentityWrite>> + Send,
    ) -> Result<TenantRecord> {
        for _ in 0..MAX_ATTEMPTS {
            let mut record = self.tenant_of(tenant, operation).await?;
            // The entry goes first: a tenant that is being deleted takes none.
            let mut writes: Vec<_> = change(&mut record)?.into_iter().collect();
            record.updated_at = self.0.env.now();
            writes.push(IdentityWrite::PutTenant(Box::new(record.clone())));
            let outcome = self.0.store.commit(tenant, writes).await?;
            self.forget_tenant(tenant);
            match outcome {
                IdentityOutcome::Committed => return Ok(record),
                IdentityOutcome::Conflict(IdentityConflict::Version) => {}
                IdentityOutcome::Conflict(conflict) => return Err(conflict_error(operation, conflict)),
            }
        }
        Err(too_busy(operation))
    }

    /// Checks a registration and returns the tenant and its first API key, not stored yet.
    pub(super) fn draft_tenant(
        &self,
        operation: &'static str,
        request: &RegisterTenant,
    ) -> Result<NewTenant> {
        let mut checks = Checks::default();
        let name = checks.text("/name", &request.name, 2, 255);
        let slug = checks.slug("/slug", &request.slug);
        let contact_email = checks.email("/contact_email", &request.contact_email);
        let billing_email =
            request.billing_email.as_deref().map(|email| checks.email("/billing_email", email));
        let tier = request.subscription_tier.as_deref().unwrap_or("free");
        let subscription_tier = checks.text("/subscription_tier", tier, 1, 50);
        let timezone = checks.timezone("/timezone", request.timezone.as_deref().unwrap_or("UTC"));
        checks.finish(operation)?;
        let (settings, now) = (&self.0.settings, self.0.env.now());
        let (key, key_record) =
            self.new_api_key("primary".to_owned(), Scopes::ADMIN, None, "registration".to_owned())?;
        let tenant = TenantRecord {
            id: TenantId::from_u128(self.0.env.uuid_v7()?),
            version: 0,
            slug,
            name,
            status: TenantStatus::Active,
            contact_email,
            billing_email,
            subscription_tier,
            timezone,
            notification_settings: JsonObject::default(),
            rate_limit_per_minute: settings.default_rate_limit_per_minute,
            max_events_per_month: settings.default_max_events_per_month,
            primary_api_key: Some(key_record.id),
            created_at: now,
            updated_at: now,
        };
        Ok(NewTenant { tenant, key, key_record })
    }

    pub(super) fn temporary_password(&self) -> Result<Secret> {
        let mut password = String::with_capacity(TEMPORARY_PASSWORD_CHARS);
        push_random(&mut password, TEMPORARY_PASSWORD_CHARS, &self.0.env)?;
        Ok(Secret::new(password))
    }
}
