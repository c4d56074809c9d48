//! The end of a tenant.

use super::documents::{channel, silence};
use super::probe::{Probe, at, delivery, firing, resolved, rule};
use crate::alerting::{Author, TimelineEntry, TimelineKind};
use crate::id::{AlertId, ChannelId, RuleId, SilenceId};
use crate::ports::alert_store::{
    AlertCommitOutcome, AlertQuery, AlertingConfig, ConfigChangeQuery, PutMode, RuleActivity, RuleQuery,
};
use crate::ports::outbox::DeliveryQuery;

impl Probe {
    /// One of everything, with the same ids in every tenant.
    async fn fill_everything(&self, after_sequence: u64) {
        let (store, tenant, author) = (&self.store, self.tenant, Author::new("ann", at(7)));
        self.configured().await;
        store.put_rule(tenant, rule(1), PutMode::Create, &author).await.expect("put succeeds");
        store.put_channel(tenant, channel(1, "ops"), PutMode::Create, &author).await.expect("put succeeds");
        store
            .put_silence(tenant, silence(1, 0, 9_000), PutMode::Create, &author)
            .await
            .expect("put succeeds");
        let mut commit = self.commit_of(after_sequence, 1, (1..=4).map(firing).collect());
        commit.changes[0].alerts.push(resolved(2, 20));
        let id = AlertId::from_u128(1);
        let entry = TimelineEntry::by(id, at(50), &"ann".into(), None, TimelineKind::Commented);
        commit.changes[0].timeline.push(entry);
        commit.changes[0].deliveries.push(delivery(1, 1, 5));
        store.commit(commit).await.expect("commit succeeds");
    }

    /// What every reading method says.
    async fn everything(&self) -> String {
        let (store, tenant) = (&self.store, self.tenant);
        let (rule, alert) = (RuleId::from_u128(1), AlertId::from_u128(1));
        let revisions = store.revisions(self.partition()).await.expect("revisions succeeds");
        let own: Vec<_> = revisions.into_iter().filter(|(of, _)| *of == tenant).collect();
        let query = AlertQuery { include_unfired: true, count_total: true, ..AlertQuery::default() };
        let by_rule = AlertQuery { rule: Some(rule), ..query.clone() };
        format!(
            "{:?}",
            (
                (store.rule(tenant, rule).await, store.rules(tenant, &RuleQuery::default()).await),
                (store.rule_activity(tenant, &[rule]).await, store.alert_counts(tenant).await),
                (store.alert(tenant, alert).await, store.timeline(tenant, alert).await),
                (store.alerts(tenant, &query).await, store.alerts(tenant, &by_rule).await),
                (store.channels(tenant).await, store.channel(tenant, ChannelId::from_u128(1)).await),
                (store.silences(tenant, None).await, store.silence(tenant, SilenceId::from_u128(1)).await),
                (store.routing(tenant).await, store.config(tenant, at(0)).await),
                (store.changes(tenant, &ConfigChangeQuery::default()).await, own),
            )
        )
    }
}

/// Nothing is found of an erased tenant, and nothing is missing of another; erasing again is fine.
pub(super) async fn erase_leaves_nothing(probe: Probe) {
    let (stranger, nobody) = (probe.stranger(), probe.stranger());
    // Partitions are shared by chance: commits of the two follow one another there.
    let follows = u64::from(stranger.partition() == probe.partition());
    probe.fill_everything(0).await;
    stranger.fill_everything(follows).await;
    let (kept, nothing) = (stranger.everything().await, nobody.everything().await);
    assert!(kept.contains("ops") && !nothing.contains("ops"));
    assert_ne!(probe.everything().await, nothing);
    for _ in 0..2 {
        probe.store.erase(probe.tenant).await.expect("erase succeeds");
        assert_eq!(probe.everything().await, nothing);
    }
    nobody.store.erase(nobody.tenant).await.expect("a tenant that never was");
    assert_eq!(stranger.everything().await, kept);
    let config = probe.store.config(probe.tenant, at(0)).await.expect("config succeeds");
    assert_eq!(config, AlertingConfig::default());
    let activity = probe.store.rule_activity(probe.tenant, &[RuleId::from_u128(1)]).await.expect("succeeds");
    assert_eq!(activity, [RuleActivity::default()]);
    // Its deliveries go by themselves, and not before.
    let page = probe.outbox.deliveries(probe.tenant, &DeliveryQuery::default()).await.expect("succeeds");
    assert_eq!(page.deliveries.len(), 1);
    probe.outbox.erase(probe.tenant).await.expect("erase succeeds");
    let page =
        stranger.outbox.deliveries(stranger.tenant, &DeliveryQuery::default()).await.expect("succeeds");
    assert_eq!(page.deliveries.len(), 1);
}

/// What a processor still says about an erased tenant is passed over; its checkpoint moves on, for the others.
pub(super) async fn erase_outlasts_commits(probe: Probe) {
    let stranger = probe.stranger();
    stranger.configured().await;
    probe.fill_everything(0).await;
    let mut late = probe.commit_of(1, 1, vec![resolved(1, 60), firing(9)]);
    late.changes[0].deliveries.push(delivery(9, 1, 5));
    late.changes.extend(stranger.commit_of(1, 1, vec![firing(3)]).changes);
    probe.store.erase(probe.tenant).await.expect("erase succeeds");
    probe.outbox.erase(probe.tenant).await.expect("erase succeeds");
    let outcome = probe.store.commit(late).await.expect("commit succeeds");
    assert_eq!(outcome, AlertCommitOutcome::Committed);
    let query = AlertQuery { include_unfired: true, ..AlertQuery::default() };
    assert!(probe.found(&query).await.is_empty());
    let page = probe.outbox.deliveries(probe.tenant, &DeliveryQuery::default()).await.expect("succeeds");
    assert!(page.deliveries.is_empty());
    assert_eq!(stranger.found(&query).await, [3]);
    let checkpoint = probe.store.checkpoint("test", probe.partition()).await.expect("succeeds");
    assert_eq!(checkpoint.map(|checkpoint| checkpoint.sequence), Some(2));
}
