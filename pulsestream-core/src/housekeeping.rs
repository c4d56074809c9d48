//! Deleting what is older than it is to be kept: alerts, deliveries, the logs of changes and of accounts, and sessions.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::auth::AuthService;
use crate::env::Env;
use crate::error::Result;
use crate::id::TenantId;
use crate::ports::alert_store::AlertStore;
use crate::ports::coordinator::Coordinator;
use crate::ports::event_store::Partition;
use crate::ports::identity::IdentityStore;
use crate::ports::outbox::Outbox;
use crate::settings::HousekeepingSettings;
use crate::text::Text;
use crate::time::Timestamp;

/// The resource that a process leases for a round.
const RESOURCE: &str = "housekeeping";
/// How many tenants with accounts are read at a time.
const TENANTS_PAGE: usize = 1_000;

/// What the housekeeper works with.
#[derive(Debug, Clone)]
pub struct HousekeeperParts {
    /// Where alerts and the log of changes are.
    pub alerts: Arc<dyn AlertStore>,
    /// Where the deliveries are.
    pub outbox: Arc<dyn Outbox>,
    /// Which tenants have accounts.
    pub identities: Arc<dyn IdentityStore>,
    /// What knows how long sessions and the audit log are kept.
    pub accounts: AuthService,
    /// Who may work.
    pub coordinator: Arc<dyn Coordinator>,
    /// The time.
    pub env: Env,
    /// Unique for each process: holds the lease.
    pub holder: Text,
}

/// How much was deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Alerts, with their timelines.
    pub alerts: u64,
    /// Deliveries, with their logs.
    pub deliveries: u64,
    /// Entries of the log of changes.
    pub changes: u64,
    /// Sessions and entries of the audit log.
    pub identity: u64,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweepOutcome {
    /// How much was deleted.
    pub swept: Swept,
    /// Whether the round goes on.
    pub has_more: bool,
    /// When the next step is due, if the round does not go on.
    pub next_due: Timestamp,
}

/// Goes round all tenants now and then, one tenant and one bounded batch of each kind a step: a tenant with much to delete comes again
/// after all the others. It has no timer and spawns nothing: whoever drives it calls [`step`](Self::step) when it is due.
///
/// A lease that lasts until the next round is due lets one process of all make the round. What a process that dies leaves undone is done
/// in the next round.
#[derive(Debug)]
pub struct Housekeeper {
    parts: HousekeeperParts,
    settings: HousekeepingSettings,
    due_at: Timestamp,
    renew_at: Timestamp,
    /// The tenants that are still to be visited, in a round.
    round: VecDeque<TenantId>,
}

impl Housekeeper {
    /// Creates a housekeeper, whose first round is due at once.
    pub fn new(parts: HousekeeperParts, settings: HousekeepingSettings) -> Self {
        let (due_at, renew_at) = (Timestamp::MIN, Timestamp::MIN);
        Self { parts, settings, due_at, renew_at, round: VecDeque::new() }
    }

    /// Visits the next tenant, or begins a round that is due.
    ///
    /// # Errors
    /// Those of the stores. The next step goes on with the next tenant.
    pub async fn step(&mut self) -> Result<SweepOutcome> {
        let now = self.parts.env.now();
        let mut swept = Swept::default();
        if self.round.is_empty() {
            if now >= self.due_at {
                // While another process has the lease it does the work: perhaps it does not live to the end of its round.
                self.due_at = now.plus(self.settings.interval / 4);
                if self.holds_lease(now).await? {
                    self.round = self.tenants().await?;
                    self.due_at = now.plus(self.settings.interval);
                }
            }
        } else if !self.holds_lease(now).await? {
            self.round.clear();
        } else if let Some(tenant) = self.round.pop_front() {
            let is_done = self.sweep(tenant, now, &mut swept).await?;
            if !is_done {
                self.round.push_back(tenant);
            }
        }
        Ok(SweepOutcome { swept, has_more: !self.round.is_empty(), next_due: self.due_at })
    }

    async fn holds_lease(&mut self, now: Timestamp) -> Result<bool> {
        let is_in_round = !self.round.is_empty();
        if is_in_round && now < self.renew_at {
            return Ok(true);
        }
        let (HousekeeperParts { coordinator, holder, .. }, ttl) = (&self.parts, self.settings.interval);
        let lease = coordinator.acquire(RESOURCE, holder, ttl).await?;
        self.renew_at = now.plus(ttl / 2);
        Ok(lease.is_some())
    }

    /// Returns all tenants: those with accounts, and those that are known to alerting only.
    async fn tenants(&self) -> Result<VecDeque<TenantId>> {
        let mut tenants = BTreeSet::new();
        for partition in Partition::all() {
            tenants
                .extend(self.parts.alerts.revisions(partition).await?.into_iter().map(|(tenant, _)| tenant));
        }
        let mut after = None;
        loop {
            let page = self.parts.identities.tenants(after, TENANTS_PAGE).await?;
            tenants.extend(page.iter().map(|tenant| tenant.id));
            match page.last() {
                Some(last) if page.len() == TENANTS_PAGE => after = Some(last.id),
                _ => return Ok(tenants.into_iter().collect()),
            }
        }
    }

    /// Deletes one batch of each kind; returns whether nothing is left.
    async fn sweep(&self, tenant: TenantId, now: Timestamp, swept: &mut Swept) -> Result<bool> {
        let HousekeeperParts { alerts, outbox, accounts, .. } = &self.parts;
        let HousekeepingSettings { keep_alerts, keep_deliveries, keep_changes, batch, .. } = self.settings;
        let before = |keep: Duration| now.minus(keep);
        swept.alerts = alerts.prune_alerts(tenant, before(keep_alerts), batch).await?;
        swept.deliveries = outbox.prune(tenant, before(keep_deliveries), batch).await?;
        swept.changes = alerts.prune_changes(tenant, before(keep_changes), batch).await?;
        swept.identity = accounts.purge(tenant, batch).await? as u64;
        let most = swept.alerts.max(swept.deliveries).max(swept.changes).max(swept.identity);
        if most > 0 {
            tracing::debug!(%tenant, ?swept, "deleted what was kept for long enough");
        }
        Ok(usize::try_from(most).is_ok_and(|most| most < batch))
    }
}
