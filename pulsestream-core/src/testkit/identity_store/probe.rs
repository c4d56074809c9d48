//! What a case works with: a fresh store, a tenant, and records to fill it with.

use std::sync::Arc;

use super::IdentityStoreHarness;
use crate::auth::{Digest256, Role, Scope, Scopes, Secret, SecretBytes};
use crate::event::JsonObject;
use crate::id::{ApiKeyId, AuditId, SessionId, TenantId, UserId};
use crate::ports::identity::{
    ApiKeyRecord, AuditAction, AuditRecord, IdentityConflict, IdentityOutcome, IdentityStore, IdentityWrite,
    PendingReset, SessionRecord, SpentToken, TenantRecord, TenantStatus, UserActivity, UserLookup,
    UserRecord,
};
use crate::time::Timestamp;

/// A fresh store, a tenant that is in it, and the harness they come from.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Opens stores.
    pub harness: Arc<dyn IdentityStoreHarness>,
    /// The store under test.
    pub store: Arc<dyn IdentityStore>,
    /// The tenant of the case.
    pub tenant: TenantId,
}

impl Probe {
    /// Opens a store for one case and makes its tenant.
    pub async fn open(harness: Arc<dyn IdentityStoreHarness>) -> Self {
        let (store, tenant) = (harness.open().await, harness.tenant());
        let probe = Self { harness, store, tenant };
        probe.put_tenant(tenant_record(tenant)).await;
        probe
    }

    /// Makes another tenant in the same store.
    pub(super) async fn stranger(&self) -> Self {
        let tenant = self.harness.tenant();
        let stranger = Self { tenant, ..self.clone() };
        stranger.put_tenant(tenant_record(tenant)).await;
        stranger
    }

    pub(super) async fn commit(&self, writes: Vec<IdentityWrite>) -> IdentityOutcome {
        self.store.commit(self.tenant, writes).await.expect("commit succeeds")
    }

    pub(super) async fn put(&self, writes: Vec<IdentityWrite>) {
        assert_eq!(self.commit(writes).await, IdentityOutcome::Committed, "nothing stands in the way");
    }

    pub(super) async fn put_tenant(&self, record: TenantRecord) {
        self.put(vec![IdentityWrite::PutTenant(Box::new(record))]).await;
    }

    pub(super) async fn put_user(&self, record: UserRecord) {
        self.put(vec![put_user(record)]).await;
    }

    /// Commits what must conflict.
    pub(super) async fn refused(&self, writes: Vec<IdentityWrite>, conflict: IdentityConflict) {
        assert_eq!(self.commit(writes).await, IdentityOutcome::Conflict(conflict));
    }

    pub(super) async fn tenant_record(&self) -> TenantRecord {
        self.store.tenant(self.tenant).await.expect("tenant succeeds").expect("the tenant exists")
    }

    pub(super) async fn user(&self, lookup: UserLookup) -> Option<UserRecord> {
        self.store
            .users(self.tenant, &[lookup])
            .await
            .expect("users succeeds")
            .pop()
            .expect("one answer per look-up")
    }

    pub(super) async fn user_by_id(&self, number: u128) -> Option<UserRecord> {
        self.user(UserLookup::Id(UserId::from_u128(number))).await
    }
}

pub(super) fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(1_800_000_000_000_000 + micros)
}

pub(super) fn put_user(record: UserRecord) -> IdentityWrite {
    IdentityWrite::PutUser(Box::new(record))
}

/// A tenant with something in every field, as it is before it is stored.
pub(super) fn tenant_record(id: TenantId) -> TenantRecord {
    TenantRecord {
        id,
        version: 0,
        slug: format!("tenant-{id}"),
        name: "Caf\u{e9} 'n' \"Bar\"".to_owned(),
        status: TenantStatus::Active,
        contact_email: "contact@tenant.example".to_owned(),
        billing_email: Some("billing@tenant.example".to_owned()),
        subscription_tier: "free".to_owned(),
        timezone: "Europe/Berlin".to_owned(),
        notification_settings: JsonObject::parse(r#"{"a":{"b":[1,2.5,"\u00e9"]}}"#).expect("valid JSON"),
        rate_limit_per_minute: u32::MAX,
        max_events_per_month: 9_007_199_254_740_991,
        primary_api_key: Some(ApiKeyId::from_u128(7)),
        created_at: at(1),
        updated_at: at(2),
    }
}

/// A user with something in every field.
pub(super) fn user_record(number: u128, email: &str) -> UserRecord {
    UserRecord {
        id: UserId::from_u128(number),
        version: 0,
        email: email.to_owned(),
        username: Some(format!("user.{number}")),
        full_name: format!("User Number {number}"),
        role: Role::Admin,
        is_active: true,
        is_verified: false,
        password_hash: Secret::from("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA"),
        password_changed_at: at(3),
        password_expires_at: Some(at(4)),
        epoch: 5,
        reset: Some(PendingReset { digest: Digest256::new([6; 32]), expires_at: at(7) }),
        preferences: JsonObject::parse(r#"{"theme":"dark"}"#).expect("valid JSON"),
        notification_preferences: JsonObject::default(),
        created_at: at(8),
        updated_at: at(9),
        activity: UserActivity::default(),
    }
}

/// A session with something in every field.
pub(super) fn session_record(number: u128, user: u128) -> SessionRecord {
    SessionRecord {
        id: SessionId::from_u128(number),
        version: 0,
        user: UserId::from_u128(user),
        epoch: 5,
        current: Digest256::new([10; 32]),
        previous: Some(SpentToken {
            digest: Digest256::new([11; 32]),
            sealed_successor: SecretBytes::new([12; 32]),
            at: at(13),
        }),
        remember_me: true,
        created_at: at(14),
        expires_at: at(15),
        ended: None,
        address: Some("2001:db8::1".to_owned()),
        user_agent: Some("browser/1.0".to_owned()),
    }
}

/// An API key with something in every field.
pub(super) fn api_key_record(number: u128) -> ApiKeyRecord {
    ApiKeyRecord {
        id: ApiKeyId::from_u128(number),
        version: 0,
        name: "ingest".to_owned(),
        scopes: Scopes::of(Scope::EventsWrite).with(Scope::AlertsRead),
        digest: Digest256::new([16; 32]),
        created_by: "user:1".to_owned(),
        created_at: at(17),
        expires_at: Some(at(18)),
        revoked_at: None,
        last_used_at: None,
    }
}

/// An audit entry; ids must ascend with time, as ours do.
pub(super) fn audit_record(millis: u64, number: u64) -> AuditRecord {
    AuditRecord {
        id: AuditId::from_u128(u128::from(millis) << 80 | 7 << 76 | 2 << 62 | u128::from(number)),
        at: Timestamp::from_millis(i64::try_from(millis).expect("in range")),
        action: AuditAction::ApiKeyRotated,
        actor: "user:1".to_owned(),
        target: Some("api_key:2".to_owned()),
        address: Some("192.0.2.1".to_owned()),
        detail: Some(format!("entry {number}")),
    }
}
