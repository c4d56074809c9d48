//! Every key of PulseStream in Redis, spelled once.
//!
//! | key | type | holds | expires |
//! |---|---|---|---|
//! | `P:{TENANT}:limit:HASH` | string | state of a rate limit, microseconds | when all has come back |
//! | `P:{TENANT}:cache:HASH` | string | a cached value | yes |
//! | `P:{TENANT}:tag:HASH` | string | generation of a tag | after the values that carry it |
//! | `P:{TENANT}:fill:HASH` | string | who computes a value now | yes |
//! | `P:{TENANT}:live` | channel | live messages | - |
//! | `P:{queue}:batches` | stream | accepted batches | no |
//! | `P:{queue}:dead` | stream | batches that were given up | no |
//! | `P:{queue}:used` | hash | events and bytes in both streams | no |
//! | `P:{leases}:held` | hash | leases by resource | no |
//! | `P:{leases}:token` | string | the last fencing token | no |
//!
//! `P` is the prefix of the settings and `TENANT` the tenant's UUID, so no text of a user is part of a key. `HASH` is the
//! first half of SHA-256 in hexadecimal. The part in braces is the hash tag of Redis Cluster: the keys that one script or one
//! command touches always share it, and so they live in one slot.

use std::fmt::Write;

use pulsestream_core::id::TenantId;
use sha2::{Digest, Sha256};

/// Spells keys under one prefix.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub(crate) fn limit(&self, tenant: TenantId, key: &str) -> String {
        self.hashed(tenant, "limit", key)
    }

    pub(crate) fn cached(&self, tenant: TenantId, key: &str) -> String {
        self.hashed(tenant, "cache", key)
    }

    pub(crate) fn tag(&self, tenant: TenantId, tag: &str) -> String {
        self.hashed(tenant, "tag", tag)
    }

    /// The tag key that belongs to what [`hash`] made of the tag.
    pub(crate) fn tag_of_hash(&self, tenant: TenantId, hash: &str) -> String {
        self.of_tenant(tenant, "tag", hash)
    }

    pub(crate) fn fill(&self, tenant: TenantId, key: &str) -> String {
        self.hashed(tenant, "fill", key)
    }

    pub(crate) fn live(&self, tenant: TenantId) -> String {
        format!("{}:{{{tenant}}}:live", self.prefix)
    }

    /// The tenant whose channel this is.
    pub(crate) fn live_tenant(&self, channel: &str) -> Option<TenantId> {
        let rest = channel.strip_prefix(self.prefix.as_str())?.strip_prefix(":{")?;
        rest.strip_suffix("}:live")?.parse().ok()
    }

    pub(crate) fn batches(&self) -> String {
        format!("{}:{{queue}}:batches", self.prefix)
    }

    pub(crate) fn dead_batches(&self) -> String {
        format!("{}:{{queue}}:dead", self.prefix)
    }

    pub(crate) fn queue_used(&self) -> String {
        format!("{}:{{queue}}:used", self.prefix)
    }

    pub(crate) fn leases(&self) -> String {
        format!("{}:{{leases}}:held", self.prefix)
    }

    pub(crate) fn lease_token(&self) -> String {
        format!("{}:{{leases}}:token", self.prefix)
    }

    fn hashed(&self, tenant: TenantId, what: &str, text: &str) -> String {
        self.of_tenant(tenant, what, &hash(text))
    }

    fn of_tenant(&self, tenant: TenantId, what: &str, hash: &str) -> String {
        format!("{}:{{{tenant}}}:{what}:{hash}", self.prefix)
    }
}

/// The first 128 bits of SHA-256 in lower-case hexadecimal.
pub(crate) fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(16).fold(String::with_capacity(32), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The part that decides about the slot, by the rule of the Redis Cluster specification.
    fn hash_tag(key: &str) -> &str {
        let start = key.find('{').unwrap();
        let length = key[start + 1..].find('}').unwrap();
        &key[start + 1..start + 1 + length]
    }

    #[test]
    fn keys_of_one_command_share_a_slot() {
        let keys = Keys::new("p");
        let tenant = TenantId::from_name("shop");
        let id = tenant.to_string();
        for key in [
            keys.limit(tenant, "a"),
            keys.cached(tenant, "a"),
            keys.tag(tenant, "a"),
            keys.fill(tenant, "a"),
            keys.live(tenant),
        ] {
            assert_eq!(hash_tag(&key), id);
        }
        for key in [keys.batches(), keys.dead_batches(), keys.queue_used()] {
            assert_eq!(hash_tag(&key), "queue");
        }
        for key in [keys.leases(), keys.lease_token()] {
            assert_eq!(hash_tag(&key), "leases");
        }
        assert_eq!(keys.tag(tenant, "a"), keys.tag_of_hash(tenant, &hash("a")));
        assert_eq!(keys.live_tenant(&keys.live(tenant)), Some(tenant));
        assert_eq!(keys.live_tenant("p:{x}:live"), None);
        assert_eq!(keys.live_tenant("q:{queue}:live"), None);
    }

    #[test]
    fn the_hash_is_the_head_of_sha_256() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(hash("abc"), "ba7816bf8f01cfea414140de5dae2223");
    }

    proptest! {
        #[test]
        fn text_of_users_cannot_shape_a_key(
            texts in prop::collection::btree_set(".{0,40}", 1..6),
            first in any::<u128>(),
            second in any::<u128>(),
        ) {
            let keys = Keys::new("p");
            let tenants: BTreeSet<TenantId> = [first, second].map(TenantId::from_u128).into();
            let mut seen = BTreeSet::new();
            for tenant in &tenants {
                for text in &texts {
                    for key in [keys.limit(*tenant, text), keys.cached(*tenant, text), keys.tag(*tenant, text)] {
                        prop_assert!(key.bytes().all(|byte| byte.is_ascii_graphic()));
                        prop_assert_eq!(hash_tag(&key), tenant.to_string());
                        prop_assert!(seen.insert(key));
                    }
                }
            }
        }
    }
}
