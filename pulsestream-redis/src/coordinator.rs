//! Leases with fencing tokens, each step one Lua script on the server's clock.
//!
//! Tokens come from one counter for all resources that never falls behind the server's clock, so they ascend also after a
//! lease ended, and after Redis lost its data. A clock that is set back cannot hold a lease beyond the time it was granted
//! for; one that is set ahead ends leases early, and then the token stops the holder that does not know yet.

use std::time::Duration;

use async_trait::async_trait;
use pulsestream_core::error::{Error, Result};
use pulsestream_core::ports::coordinator::{Coordinator, Lease};
use pulsestream_core::time::{Timestamp, micros};

use crate::connect::{Link, Request};
use crate::error::{Effect, unexpected};
use crate::keys::Keys;
use crate::script::{Invocation, Script};

static ACQUIRE: Script = Script::new(include_str!("scripts/lease_acquire.lua"));
static RELEASE: Script = Script::new(include_str!("scripts/lease_release.lua"));
static LIST: Script = Script::new(include_str!("scripts/lease_list.lua"));

/// The longest lease: numbers of Lua are exact up to 2^53.
const MAX_TTL: Duration = Duration::from_secs(366 * 86_400);

/// Grants leases that hold over all nodes.
#[derive(Debug)]
pub struct RedisCoordinator {
    link: Link,
    keys: Keys,
}

impl RedisCoordinator {
    pub(crate) fn new(link: Link, keys: Keys) -> Self {
        Self { link, keys }
    }
}

#[async_trait]
impl Coordinator for RedisCoordinator {
    async fn acquire(&self, resource: &str, holder: &str, ttl: Duration) -> Result<Option<Lease>> {
        const OPERATION: &str = "coordinator.acquire";
        if ttl.as_micros() == 0 || ttl > MAX_TTL {
            return Err(Error::invalid(
                OPERATION,
                "/ttl",
                "out_of_range",
                "must be 1 microsecond to 366 days",
            ));
        }
        let ttl_micros = micros(ttl).to_string();
        let request = Request::Script(Invocation {
            script: &ACQUIRE,
            keys: &[self.keys.leases(), self.keys.lease_token()],
            arguments: &[resource.as_bytes(), holder.as_bytes(), ttl_micros.as_bytes()],
        });
        // Doing it twice renews what was taken.
        let granted: Option<(u64, i64)> = self.link.send(request, Effect::Repeatable, OPERATION).await?;
        Ok(granted.map(|(fencing_token, expires_at)| Lease {
            resource: resource.into(),
            holder: holder.into(),
            fencing_token,
            expires_at: Timestamp::from_micros(expires_at),
        }))
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        let token = lease.fencing_token.to_string();
        let request = Request::Script(Invocation {
            script: &RELEASE,
            keys: &[self.keys.leases()],
            arguments: &[lease.resource.as_bytes(), lease.holder.as_bytes(), token.as_bytes()],
        });
        self.link.send(request, Effect::Repeatable, "coordinator.release").await
    }

    async fn leases(&self, prefix: &str) -> Result<Vec<Lease>> {
        const OPERATION: &str = "coordinator.leases";
        let request = Request::Script(Invocation {
            script: &LIST,
            keys: &[self.keys.leases()],
            arguments: &[prefix.as_bytes()],
        });
        let fields: Vec<String> = self.link.send(request, Effect::Read, OPERATION).await?;
        let mut leases = fields.chunks_exact(4).map(read_lease).collect::<Option<Vec<Lease>>>();
        if let Some(leases) = &mut leases {
            leases.sort_by(|left, right| left.resource.cmp(&right.resource));
        }
        leases.ok_or_else(|| unexpected(OPERATION, "a lease that cannot be read"))
    }
}

fn read_lease(fields: &[String]) -> Option<Lease> {
    let [resource, token, expires_at, holder] = fields else { return None };
    Some(Lease {
        resource: resource.as_str().into(),
        holder: holder.as_str().into(),
        fencing_token: token.parse().ok()?,
        expires_at: Timestamp::from_micros(expires_at.parse().ok()?),
    })
}
