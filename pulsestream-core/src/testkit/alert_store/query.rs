//! Listing alerts: conditions, order, pages.

use super::probe::{Probe, at, change, firing, resolved};
use crate::alerting::{Alert, AlertSeverity, AlertState, MatchOp, Matcher, Suppression};
use crate::id::RuleId;
use crate::ports::alert_store::AlertQuery;
use crate::time::TimeRange;

impl Probe {
    /// Alerts 1 to 12: all fire, 3 and 6 are resolved, 9 is pending, 12 was pending only, 5 is silenced by its cooldown.
    async fn fill(&self) -> Vec<Alert> {
        let mut changes: Vec<_> =
            (1..=12).filter(|number| *number != 9 && *number != 12).map(firing).collect();
        changes.extend([resolved(3, 100), resolved(6, 101)]);
        changes.push(change(9, 1, None, AlertState::Pending, 9));
        changes.push(change(12, 1, None, AlertState::Pending, 12));
        changes.push(change(12, 2, Some(AlertState::Pending), AlertState::Resolved, 13));
        for change in &mut changes {
            if change.transition.alert.as_u128() == 5 {
                change.suppressed_by = Some(Suppression::Cooldown);
            }
        }
        self.committed(0, changes).await;
        let mut alerts = Vec::new();
        for number in 1..=12 {
            alerts.push(self.alert(number).await.expect("it was committed"));
        }
        alerts
    }

    /// Checks that a query finds exactly what it selects, the latest first.
    async fn check(&self, all: &[Alert], query: AlertQuery, expected: &[u128]) {
        let mut selected: Vec<_> =
            all.iter().filter(|alert| query.selects(alert)).map(|alert| alert.id.as_u128()).collect();
        selected.reverse();
        assert_eq!(selected, expected, "what {query:?} means");
        assert_eq!(self.found(&query).await, expected, "{query:?}");
    }
}

/// Conditions on state, severity, suppression and rule.
pub(super) async fn alerts_query_conditions(probe: Probe) {
    let all = probe.fill().await;
    let query = AlertQuery::default;
    probe.check(&all, query(), &[11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]).await;
    let states = |states: &[AlertState]| AlertQuery { states: states.to_vec(), ..query() };
    probe.check(&all, states(&[AlertState::Resolved]), &[6, 3]).await;
    probe.check(&all, states(&[AlertState::Pending]), &[9]).await;
    probe.check(&all, states(&[AlertState::Pending, AlertState::Resolved]), &[9, 6, 3]).await;
    probe.check(&all, states(&[AlertState::NoData]), &[]).await;
    let severities = vec![AlertSeverity::High];
    probe.check(&all, AlertQuery { severities, ..query() }, &[10, 8, 6, 4, 2]).await;
    probe.check(&all, AlertQuery { suppressed: Some(true), ..query() }, &[5]).await;
    let rule = Some(RuleId::from_u128(0));
    probe.check(&all, AlertQuery { rule, ..query() }, &[9, 6, 3]).await;
    probe.check(&all, AlertQuery { rule, ..states(&[AlertState::Firing]) }, &[]).await;
    probe.check(&all, AlertQuery { rule: Some(RuleId::from_u128(77)), ..query() }, &[]).await;
    let fingerprint = Some(all[0].fingerprint);
    probe.check(&all, AlertQuery { fingerprint, ..query() }, &[11, 9, 7, 5, 3, 1]).await;
}

/// Conditions on labels; all of them hold.
pub(super) async fn alerts_query_labels(probe: Probe) {
    let all = probe.fill().await;
    let matcher = |op, value: &str| Matcher { label: "service".into(), op, value: value.into() };
    for (op, value, expected) in [
        (MatchOp::Equal, "s1", vec![11, 9, 7, 5, 3, 1]),
        (MatchOp::NotEqual, "s1", vec![10, 8, 6, 4, 2]),
        (MatchOp::Matches, "s[02]", vec![10, 8, 6, 4, 2]),
        (MatchOp::Matches, "s", vec![]),
        (MatchOp::DoesNotMatch, "s[1-9]", vec![10, 8, 6, 4, 2]),
    ] {
        let query = AlertQuery { labels: vec![matcher(op, value)], ..AlertQuery::default() };
        probe.check(&all, query, &expected).await;
    }
    let absent = Matcher::equal("team", "");
    let labels = vec![absent.clone(), matcher(MatchOp::Equal, "s0"), matcher(MatchOp::Equal, "s1")];
    probe.check(&all, AlertQuery { labels, ..AlertQuery::default() }, &[]).await;
    let labels = vec![absent, matcher(MatchOp::Equal, "s0")];
    probe.check(&all, AlertQuery { labels, ..AlertQuery::default() }, &[10, 8, 6, 4, 2]).await;
}

/// Alerts that started in a range, its start inside and its end outside.
pub(super) async fn alerts_query_range(probe: Probe) {
    let all = probe.fill().await;
    let range = |from, until| AlertQuery {
        range: Some(TimeRange::new(at(from), at(until))),
        ..AlertQuery::default()
    };
    probe.check(&all, range(4, 7), &[6, 5, 4]).await;
    probe.check(&all, AlertQuery { states: vec![AlertState::Firing], ..range(4, 7) }, &[5, 4]).await;
    probe.check(&all, AlertQuery { rule: Some(RuleId::from_u128(0)), ..range(4, 10) }, &[9, 6]).await;
    probe.check(&all, range(7, 7), &[]).await;
    probe.check(&all, range(50, 60), &[]).await;
}

/// Resolved episodes that never fired show when they are asked for.
pub(super) async fn alerts_query_unfired(probe: Probe) {
    let all = probe.fill().await;
    let query = AlertQuery { include_unfired: true, limit: 3, ..AlertQuery::default() };
    assert_eq!(probe.found(&query).await, [12, 11, 10]);
    let query = AlertQuery { states: vec![AlertState::Resolved], limit: 0, ..query };
    probe.check(&all, query, &[12, 6, 3]).await;
}

/// The total counts all pages, whichever page is read.
pub(super) async fn alerts_query_counts_all(probe: Probe) {
    probe.fill().await;
    let base = AlertQuery { states: vec![AlertState::Firing], count_total: true, ..AlertQuery::default() };
    for (limit, skip, expected) in [(3, 0, vec![11, 10, 8]), (3, 6, vec![2, 1]), (20, 8, vec![])] {
        let query = AlertQuery { limit, skip, ..base.clone() };
        let page = probe.store.alerts(probe.tenant, &query).await.expect("alerts succeeds");
        let found: Vec<_> = page.alerts.iter().map(|alert| alert.id.as_u128()).collect();
        assert_eq!((found, page.total), (expected, Some(8)), "limit {limit}, skip {skip}");
    }
    let query = AlertQuery { count_total: false, ..base };
    assert_eq!(probe.store.alerts(probe.tenant, &query).await.expect("succeeds").total, None);
}

/// Following `next` visits each alert once although others start meanwhile, and alerts that started together are told apart.
pub(super) async fn alerts_pages_are_complete(probe: Probe) {
    let mut changes: Vec<_> = (1..=20).map(firing).collect();
    for change in &mut changes {
        change.transition.started_at = at(i64::from(change.transition.alert.as_u128() > 10));
    }
    probe.committed(0, changes).await;
    for states in [Vec::new(), vec![AlertState::Firing]] {
        let mut query = AlertQuery { limit: 3, states, ..AlertQuery::default() };
        let mut visited = Vec::new();
        let first = if query.states.is_empty() { 1_000 } else { 2_000 };
        for step in 0..20_u64 {
            let page = probe.store.alerts(probe.tenant, &query).await.expect("alerts succeeds");
            visited.extend(page.alerts.iter().map(|alert| alert.id.as_u128()));
            query.after = page.next;
            if page.next.is_none() {
                break;
            }
            let sequence = if first == 1_000 { step } else { step + 6 };
            probe.committed(sequence + 1, vec![firing(u128::from(step) + first)]).await;
        }
        visited.retain(|number| *number < 1_000);
        assert_eq!(visited, (1..=20).rev().collect::<Vec<_>>());
    }
}
