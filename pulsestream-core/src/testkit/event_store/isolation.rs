//! Isolation: no method shows or changes what belongs to another tenant.

use super::probe::Probe;
use crate::event::FieldPath;
use crate::ports::event_store::DeleteSelection;
use crate::query::{AggregateQuery, FindQuery, Measure};
use crate::testkit::events::{at, event, event_with, filter, id};
use crate::time::TimeRange;

/// Two tenants with the same ids at the same times; returns the second.
async fn two_tenants(probe: &Probe) -> Probe {
    let other = probe.stranger();
    for (tenant, owner) in [(probe, "mine"), (&other, "theirs")] {
        let events = ["a", "b", "c"].map(|name| {
            event_with(name, 1, |event| {
                event.title = Some(owner.into());
                event.metrics.response_time_ms = Some(if owner == "mine" { 1.0 } else { 1_000.0 });
            })
        });
        tenant.append(events.to_vec()).await;
    }
    other
}

/// `find` never shows another tenant's events.
pub(super) async fn isolation_of_find(probe: Probe) {
    let other = two_tenants(&probe).await;
    probe.assert_matching(&[("title = 'theirs'", ""), ("title = 'mine'", "a b c")]).await;
    other.assert_matching(&[("title = 'theirs'", "a b c"), ("not exists(error.code)", "a b c")]).await;
    let total = probe.find(FindQuery { count_total: true, limit: 1, ..FindQuery::default() }).await.total;
    assert_eq!(total, Some(3));
    assert!(probe.stranger().all_ids().await.is_empty(), "an unknown tenant has nothing");
}

/// `aggregate` measures the own events only.
pub(super) async fn isolation_of_aggregate(probe: Probe) {
    let other = two_tenants(&probe).await;
    let query = AggregateQuery {
        group_by: vec![FieldPath::Title],
        measures: vec![Measure::Count, Measure::Sum(FieldPath::ResponseTimeMs)],
        ..AggregateQuery::default()
    };
    for (tenant, owner, sum) in [(&probe, "mine", 3.0), (&other, "theirs", 3_000.0)] {
        let table = tenant.aggregate(query.clone()).await;
        assert_eq!(table.rows.len(), 1, "one group, the own");
        assert_eq!(table.rows[0].group[0].as_text(), Some(owner));
        assert_eq!(table.rows[0].values, [Some(3.0), Some(sum)]);
    }
}

/// `scan` reads the own events only.
pub(super) async fn isolation_of_scan(probe: Probe) {
    let other = two_tenants(&probe).await;
    other.append(vec![event("d", 2)]).await;
    assert_eq!(probe.scanned_ids().await, ["a", "b", "c"]);
    assert_eq!(other.scanned_ids().await, ["a", "b", "c", "d"]);
}

/// `delete` reaches no other tenant's events, by id or by filter.
pub(super) async fn delete_is_isolated(probe: Probe) {
    let other = two_tenants(&probe).await;
    assert_eq!(probe.delete(&["a"]).await, 1);
    let everything = DeleteSelection::Matching { range: TimeRange::ALL, filter: Some(filter("true")) };
    assert_eq!(probe.store.delete(probe.tenant, &everything).await.expect("delete succeeds"), 2);
    assert!(probe.all_ids().await.is_empty());
    assert_eq!(other.all_ids().await, ["a", "b", "c"]);
    assert_eq!(other.scanned_ids().await, ["a", "b", "c"]);
    let tailed = other.tail().await;
    let theirs = tailed.iter().filter(|tailed| tailed.tenant == other.tenant).count();
    assert_eq!(theirs, 3, "their log is whole");
}

/// `retain` reaches no other tenant's events.
pub(super) async fn isolation_of_retain(probe: Probe) {
    let other = two_tenants(&probe).await;
    assert_eq!(probe.store.retain(probe.tenant, at(100)).await.expect("retain succeeds"), 3);
    assert!(probe.all_ids().await.is_empty());
    assert_eq!(other.all_ids().await, ["a", "b", "c"]);
}

/// An id that one tenant deleted is still the other's, and still a duplicate there.
pub(super) async fn isolation_of_get_after_delete(probe: Probe) {
    let other = two_tenants(&probe).await;
    assert_eq!(probe.delete(&["a"]).await, 1);
    assert_eq!(probe.get(&id("a")).await, None);
    assert!(other.get(&id("a")).await.is_some());
    assert_eq!(other.outcomes(vec![event("a", 1)]).await, ["duplicate"]);
    assert_eq!(probe.outcomes(vec![event("a", 1)]).await, ["stored"]);
}
