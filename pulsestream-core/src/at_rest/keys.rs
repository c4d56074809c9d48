//! Every key of the at-rest ports, spelled in one place.
//!
//! Ids are their 16 big-endian bytes, so that keys sort as ids do. What belongs to a tenant starts with the tenant, so that one
//! range holds it all.

/// Keys of identities: all start with `id/`.
pub(crate) mod identity {
    use crate::id::{ApiKeyId, AuditId, SessionId, TenantId, UserId};
    use crate::ports::identity::unique_form;

    fn global(kind: &[u8], rest: &[u8]) -> Vec<u8> {
        [b"id/", kind, b"/", rest].concat()
    }

    /// The start of all keys of a tenant but those under [`tenant_index`], [`slug`] and [`api_key_owner`].
    pub(crate) fn tenant_prefix(tenant: TenantId) -> Vec<u8> {
        global(b"t", &[tenant.to_bytes().as_slice(), b"/"].concat())
    }

    fn of_tenant(tenant: TenantId, kind: u8, rest: &[u8]) -> Vec<u8> {
        let mut key = tenant_prefix(tenant);
        key.extend([kind, b'/']);
        key.extend_from_slice(rest);
        key
    }

    /// The secrets of the deployment.
    pub(crate) fn keyring() -> Vec<u8> {
        global(b"k", b"")
    }

    /// Present for each tenant: the list of tenants.
    pub(crate) fn tenant_index(tenant: TenantId) -> Vec<u8> {
        global(b"i", &tenant.to_bytes())
    }

    /// The start of the list of tenants.
    pub(crate) fn tenant_index_prefix() -> Vec<u8> {
        global(b"i", b"")
    }

    /// Slug to tenant id.
    pub(crate) fn slug(slug: &str) -> Vec<u8> {
        global(b"s", unique_form(slug).as_bytes())
    }

    /// API key id to tenant id.
    pub(crate) fn api_key_owner(key: ApiKeyId) -> Vec<u8> {
        global(b"a", &key.to_bytes())
    }

    /// The record of a tenant.
    pub(crate) fn tenant(tenant: TenantId) -> Vec<u8> {
        of_tenant(tenant, b'r', b"")
    }

    /// The record of a user.
    pub(crate) fn user(tenant: TenantId, user: UserId) -> Vec<u8> {
        of_tenant(tenant, b'u', &user.to_bytes())
    }

    /// The start of the records of users.
    pub(crate) fn users(tenant: TenantId) -> Vec<u8> {
        of_tenant(tenant, b'u', b"")
    }

    /// E-mail address to user id.
    pub(crate) fn email(tenant: TenantId, email: &str) -> Vec<u8> {
        of_tenant(tenant, b'e', unique_form(email).as_bytes())
    }

    /// User name to user id.
    pub(crate) fn username(tenant: TenantId, username: &str) -> Vec<u8> {
        of_tenant(tenant, b'n', unique_form(username).as_bytes())
    }

    /// What a user did.
    pub(crate) fn activity(tenant: TenantId, user: UserId) -> Vec<u8> {
        of_tenant(tenant, b'v', &user.to_bytes())
    }

    /// The record of a session.
    pub(crate) fn session(tenant: TenantId, session: SessionId) -> Vec<u8> {
        of_tenant(tenant, b's', &session.to_bytes())
    }

    /// The start of the records of sessions.
    pub(crate) fn sessions(tenant: TenantId) -> Vec<u8> {
        of_tenant(tenant, b's', b"")
    }

    /// Present for each session of a user; the last 16 bytes are the session.
    pub(crate) fn user_session(tenant: TenantId, user: UserId, session: SessionId) -> Vec<u8> {
        let mut key = user_sessions(tenant, user);
        key.extend(session.to_bytes());
        key
    }

    /// The start of the list of sessions of a user.
    pub(crate) fn user_sessions(tenant: TenantId, user: UserId) -> Vec<u8> {
        of_tenant(tenant, b'o', &user.to_bytes())
    }

    /// The record of an API key.
    pub(crate) fn api_key(tenant: TenantId, key: ApiKeyId) -> Vec<u8> {
        of_tenant(tenant, b'k', &key.to_bytes())
    }

    /// The start of the records of API keys.
    pub(crate) fn api_keys(tenant: TenantId) -> Vec<u8> {
        of_tenant(tenant, b'k', b"")
    }

    /// When an API key was last used.
    pub(crate) fn api_key_use(tenant: TenantId, key: ApiKeyId) -> Vec<u8> {
        of_tenant(tenant, b'l', &key.to_bytes())
    }

    /// An entry of the audit log.
    pub(crate) fn audit(tenant: TenantId, entry: AuditId) -> Vec<u8> {
        of_tenant(tenant, b'a', &entry.to_bytes())
    }

    /// The start of the audit log.
    pub(crate) fn audit_log(tenant: TenantId) -> Vec<u8> {
        of_tenant(tenant, b'a', b"")
    }
}

/// Keys of coordination: all start with `co/`.
pub(crate) mod coordination {
    /// The lease of a resource; with the start of a resource's name, the start of all such keys.
    pub(crate) fn lease(resource: &str) -> Vec<u8> {
        [b"co/l/", resource.as_bytes()].concat()
    }
}
