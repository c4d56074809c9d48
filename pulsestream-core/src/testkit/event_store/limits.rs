//! Limits: what is at the limit works, what is beyond it is refused.

use super::probe::{Probe, assert_fails};
use crate::error::ErrorKind;
use crate::event::FieldPath;
use crate::filter::{CompareOp, Expr, Filter, MAX_DEPTH, MAX_PREDICATES};
use crate::ports::event_store::{Position, TailOptions};
use crate::query::{FindQuery, MAX_SCAN_COLUMNS, ScanQuery};
use crate::testkit::events::event;

/// A scan has at most so many columns, and batches of at least one row.
pub(super) async fn limits_of_scan(probe: Probe) {
    let scan = async |columns: usize, batch_rows: usize| {
        let query = ScanQuery { columns: vec![FieldPath::Id; columns], batch_rows, ..ScanQuery::default() };
        probe.store.scan(probe.tenant, &query).await
    };
    assert!(scan(MAX_SCAN_COLUMNS, 1).await.is_ok());
    assert_fails(scan(MAX_SCAN_COLUMNS + 1, 1).await, ErrorKind::Invalid, "one column too many");
    assert_fails(scan(1, 0).await, ErrorKind::Invalid, "batches of nothing");
}

/// A tail of nothing is refused.
pub(super) async fn limits_of_tail(probe: Probe) {
    let refused = probe
        .store
        .tail(probe.partition(), Position::START, TailOptions { limit: 0, ..TailOptions::default() })
        .await;
    assert_fails(refused, ErrorKind::Invalid, "a tail of no events");
    let big = probe
        .store
        .tail(probe.partition(), Position::START, TailOptions { limit: usize::MAX, ..TailOptions::default() })
        .await;
    assert!(big.is_ok(), "the largest number is a number");
}

/// A page may be larger than the store.
pub(super) async fn limits_of_find(probe: Probe) {
    probe.append(vec![event("a", 0), event("b", 1)]).await;
    let query = FindQuery { limit: 1_000, skip: 1, ..FindQuery::default() };
    assert_eq!(probe.ids(query).await, ["a"]);
    let beyond = FindQuery { skip: usize::MAX, ..FindQuery::default() };
    assert!(probe.ids(beyond).await.is_empty());
}

/// A filter of the largest size works.
pub(super) async fn limits_of_filters(probe: Probe) {
    probe.append((0..100).map(|number| event(&format!("e{number:02}"), number)).collect()).await;
    let predicate =
        |number: usize| Expr::compare(FieldPath::Id, CompareOp::Eq, format!("e{number:02}").as_str());
    let wide =
        Filter::new(Expr::Or((0..MAX_PREDICATES).map(predicate).collect())).expect("as many as allowed");
    let query = FindQuery { filter: Some(wide), limit: 1_000, ..FindQuery::default() };
    assert_eq!(probe.ids(query).await.len(), MAX_PREDICATES);
    let deep = (0..MAX_DEPTH).fold(predicate(7), |inner, _| Expr::Not(Box::new(inner)));
    let query =
        FindQuery { filter: Some(Filter::new(deep).expect("as deep as allowed")), ..FindQuery::default() };
    assert_eq!(probe.ids(query).await, ["e07"]);
    let alternating = (0..MAX_DEPTH / 2).fold(predicate(9), |inner, number| {
        Expr::And(vec![Expr::Or(vec![inner, predicate(number)]), Expr::Exists(FieldPath::Id)])
    });
    let alternating = Filter::new(alternating).expect("as deep as allowed");
    let query = FindQuery { filter: Some(alternating), limit: 100, ..FindQuery::default() };
    assert_eq!(probe.ids(query).await.len(), MAX_DEPTH / 2);
}
