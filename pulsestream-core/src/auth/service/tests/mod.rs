//! Tests of the account service over the memory store.

mod api_keys;
mod enumeration;
mod lifecycle;
mod passwords;
mod permissions;
mod secrets;
mod sessions;
mod setup;
mod tenants;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::*;
use crate::at_rest::KeyValueIdentityStore;
use crate::auth::{
    Login, NewApiKey, RegisterTenant, RegisterUser, RegisteredTenant, Role, Scopes, Tokens, UserProfile,
};
use crate::env::ManualClock;
use crate::memory::MemoryKeyValue;
use crate::ports::auth::{Credential, Credentials, TenantAuth};
use crate::ports::identity::AuditQuery;
use crate::ports::key_value::KeyValue;
use crate::time::Timestamp;

/// A password that no rule refuses.
const PASSWORD: &str = "canary-Pw-7vq2-violet";
const OTHER_PASSWORD: &str = "canary-Pw-8wr3-indigo";

/// Keeps the messages it was given.
#[derive(Debug, Default)]
struct Mailbox(Mutex<Vec<ResetMail>>);

#[async_trait]
impl ResetMailer for Mailbox {
    async fn send_reset(&self, mail: ResetMail) -> Result<()> {
        self.0.lock().unwrap().push(mail);
        Ok(())
    }
}

impl Mailbox {
    fn take(&self) -> Vec<ResetMail> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// A service with all that is around it.
struct World {
    service: AuthService,
    clock: Arc<ManualClock>,
    env: Env,
    key_value: Arc<MemoryKeyValue>,
    mailbox: Arc<Mailbox>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("service", &self.service).finish()
    }
}

/// A tenant with its owner signed in.
struct Shop {
    registered: RegisteredTenant,
    owner: Principal,
    slug: String,
}

impl World {
    async fn new() -> Self {
        Self::with(AuthSettings::default(), false).await
    }

    async fn with(settings: AuthSettings, shared: bool) -> Self {
        let (env, clock) = Env::manual(Timestamp::from_seconds(1_800_000_000), 42);
        let (key_value, mailbox) = (Arc::new(MemoryKeyValue::new()), Arc::new(Mailbox::default()));
        let service = node(&env, &key_value, &mailbox, settings, shared).await;
        Self { service, clock, env, key_value, mailbox }
    }

    /// Another process over the same store.
    async fn another_node(&self) -> AuthService {
        node(&self.env, &self.key_value, &self.mailbox, self.service.settings().clone(), true).await
    }

    async fn shop(&self, slug: &str) -> Shop {
        let registered = self.service.register_tenant(&registration(slug), &Origin::default()).await.unwrap();
        let tokens =
            self.login(slug, &registered.owner.email, registered.temporary_password.expose()).await.unwrap();
        let owner = self.principal(&tokens).await.unwrap();
        Shop { registered, owner, slug: slug.to_owned() }
    }

    async fn user(&self, shop: &Shop, name: &str, role: Role) -> (UserProfile, Tokens, Principal) {
        let request = new_user(&format!("{name}@{}.example", shop.slug), role);
        let profile = self.service.register_user(&shop.owner, &request, &Origin::default()).await.unwrap();
        let tokens = self.login(&shop.slug, &profile.email, PASSWORD).await.unwrap();
        let principal = self.principal(&tokens).await.unwrap();
        (profile, tokens, principal)
    }

    async fn login(&self, slug: &str, email: &str, password: &str) -> Result<Tokens> {
        self.service.login(&sign_in(slug, email, password), &Origin::default()).await
    }

    async fn principal(&self, tokens: &Tokens) -> Result<Principal> {
        authenticate(&self.service, Credential::Bearer(tokens.access_token.clone())).await
    }

    async fn key_principal(&self, key: &Secret) -> Result<Principal> {
        authenticate(&self.service, Credential::ApiKey(key.clone())).await
    }

    async fn refresh(&self, tokens: &Tokens) -> Result<Tokens> {
        self.service.refresh(&tokens.refresh_token, &Origin::default()).await
    }

    async fn key(&self, actor: &Principal, scopes: Scopes) -> NewApiKey {
        let request = crate::auth::CreateApiKey { name: "test".into(), scopes, expires_at: None };
        self.service.create_api_key(actor, &request, &Origin::default()).await.unwrap()
    }

    async fn audit_actions(&self, actor: &Principal) -> Vec<AuditAction> {
        let query = AuditQuery { before: None, limit: 1_000 };
        let log = self.service.audit_log(actor, &query, &Origin::default()).await.unwrap();
        log.into_iter().map(|entry| entry.action).collect()
    }

    /// Everything the store holds, as text.
    async fn dump(&self) -> String {
        let everything = crate::ports::key_value::Read::Range {
            start: vec![],
            end: vec![255],
            limit: usize::MAX,
            reverse: false,
        };
        let results = self.key_value.read(vec![everything]).await.unwrap();
        let crate::ports::key_value::ReadResult::Entries(entries) = &results[0] else { panic!("a range") };
        entries
            .iter()
            .map(|(key, value)| {
                format!("{} {}\n", String::from_utf8_lossy(key), String::from_utf8_lossy(value))
            })
            .collect()
    }
}

async fn node(
    env: &Env,
    key_value: &Arc<MemoryKeyValue>,
    mailbox: &Arc<Mailbox>,
    settings: AuthSettings,
    shared: bool,
) -> AuthService {
    let store = Arc::new(KeyValueIdentityStore::new(key_value.clone(), shared));
    AuthService::builder(env.clone(), store)
        .with_settings(settings)
        .with_reset_mailer(mailbox.clone())
        .with_cheap_hashing()
        .open()
        .await
        .unwrap()
}

async fn authenticate(service: &AuthService, credential: Credential) -> Result<Principal> {
    service.authenticate(&Credentials { credential, origin: Origin::default() }).await
}

fn registration(slug: &str) -> RegisterTenant {
    RegisterTenant {
        name: format!("The {slug} company"),
        slug: slug.to_owned(),
        contact_email: format!("owner@{slug}.example"),
        billing_email: None,
        subscription_tier: None,
        timezone: None,
    }
}

fn new_user(email: &str, role: Role) -> RegisterUser {
    RegisterUser {
        email: email.to_owned(),
        password: PASSWORD.into(),
        confirm_password: PASSWORD.into(),
        full_name: "Some Body".to_owned(),
        username: None,
        role,
    }
}

fn sign_in(slug: &str, email: &str, password: &str) -> Login {
    Login {
        email: email.to_owned(),
        password: password.into(),
        tenant_slug: slug.to_owned(),
        remember_me: false,
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
