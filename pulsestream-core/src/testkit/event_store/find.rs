//! Finding: order, cursors, ranges, totals.

use super::probe::{Probe, assert_fails};
use crate::error::ErrorKind;
use crate::event::Event;
use crate::query::{Cursor, FindQuery, Order};
use crate::testkit::events::{at, event, event_with, filter, id};
use crate::time::{TimeRange, Timestamp};

fn page(order: Order, limit: usize) -> FindQuery {
    FindQuery { order, limit, ..FindQuery::default() }
}

/// Returns 25 events at 9 instants, so that pages end inside ties.
fn tied_events() -> Vec<Event> {
    (0..25).map(|number| event(&format!("e{:02}", (number * 7) % 25), number / 3)).collect()
}

/// Returns the ids of events by (timestamp, id), as an independent sort sees them.
fn sorted_ids(mut events: Vec<Event>, order: Order) -> Vec<String> {
    events.sort_by(|left, right| {
        (left.timestamp, left.id.as_str().as_bytes()).cmp(&(right.timestamp, right.id.as_str().as_bytes()))
    });
    if order == Order::NewestFirst {
        events.reverse();
    }
    super::probe::ids_of(&events)
}

/// The latest event comes first.
pub(super) async fn find_orders_newest_first(probe: Probe) {
    probe.append(vec![event("b", 2), event("a", 3), event("c", 1)]).await;
    assert_eq!(probe.ids(page(Order::NewestFirst, 10)).await, ["a", "b", "c"]);
}

/// The earliest event comes first.
pub(super) async fn find_orders_oldest_first(probe: Probe) {
    probe.append(vec![event("b", 2), event("a", 3), event("c", 1)]).await;
    assert_eq!(probe.ids(page(Order::OldestFirst, 10)).await, ["c", "b", "a"]);
}

/// Events of one instant stand by the bytes of their ids, in the direction asked; a microsecond is an instant of its own.
pub(super) async fn find_orders_ties_by_id(probe: Probe) {
    let names = ["Z", "a", "a-", "aa", "b", "z", "\u{e9}", "\u{ffff}", "\u{1f980}"];
    let mut events: Vec<Event> = names.iter().map(|name| event(name, 0)).collect();
    events.swap(0, 5);
    events.swap(2, 8);
    events.push(event_with("A", 0, |event| event.timestamp = Timestamp::from_micros(at(0).as_micros() + 1)));
    probe.append(events).await;
    let mut expected = names.to_vec();
    expected.push("A");
    assert_eq!(probe.ids(page(Order::OldestFirst, 20)).await, expected);
    expected.reverse();
    assert_eq!(probe.ids(page(Order::NewestFirst, 20)).await, expected);
}

/// Following `next` visits every event once, for every page size.
pub(super) async fn find_pages_are_complete(probe: Probe) {
    probe.append(tied_events()).await;
    for order in [Order::NewestFirst, Order::OldestFirst] {
        let expected = sorted_ids(tied_events(), order);
        for limit in [1, 2, 3, 7, 24, 25, 26] {
            assert_eq!(probe.walk(page(order, limit)).await, expected, "{order:?} in pages of {limit}");
        }
    }
}

/// What was there at the start is visited once, whatever is appended between pages.
pub(super) async fn find_pages_under_inserts(probe: Probe) {
    for (order, prefix) in [(Order::NewestFirst, "n"), (Order::OldestFirst, "o")] {
        let probe = probe.stranger();
        probe.append(tied_events()).await;
        let mut query = page(order, 4);
        let mut seen = Vec::new();
        for round in 0.. {
            let found = probe.find(query.clone()).await;
            seen.extend(super::probe::ids_of(&found.events));
            let Some(next) = found.next else { break };
            query.after = Some(next);
            let around =
                [-1, 2, 4, 8, 100].map(|seconds| event(&format!("{prefix}{round}/{seconds}"), seconds));
            probe.append(around.to_vec()).await;
        }
        let old: Vec<String> = seen.iter().filter(|name| name.starts_with('e')).cloned().collect();
        assert_eq!(old, sorted_ids(tied_events(), order), "{order:?}: the old events come once, in order");
        let mut unique = seen.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), seen.len(), "{order:?}: nothing comes twice");
    }
}

/// Pages of a filtered find are full, and complete together.
pub(super) async fn find_pages_with_a_filter(probe: Probe) {
    let events: Vec<Event> = (0..60)
        .map(|number| {
            event_with(&format!("e{number:02}"), number, |event| {
                event.metrics.status_code = Some(if number % 7 == 0 { 500 } else { 200 });
            })
        })
        .collect();
    probe.append(events).await;
    let query = FindQuery {
        filter: Some(filter("metrics.status_code >= 500")),
        limit: 4,
        order: Order::OldestFirst,
        ..FindQuery::default()
    };
    assert_eq!(probe.ids(query.clone()).await, ["e00", "e07", "e14", "e21"], "a page is full of matches");
    let expected = ["e00", "e07", "e14", "e21", "e28", "e35", "e42", "e49", "e56"];
    assert_eq!(probe.walk(query).await, expected);
}

/// A cursor goes on working when its event was deleted.
pub(super) async fn find_pages_after_deletion(probe: Probe) {
    probe.append((0..6).map(|number| event(&format!("e{number}"), 0)).collect()).await;
    let first = probe.find(page(Order::OldestFirst, 3)).await;
    assert_eq!(probe.delete(&["e2", "e3"]).await, 2);
    let rest = FindQuery { after: first.next, ..page(Order::OldestFirst, 3) };
    assert_eq!(probe.ids(rest).await, ["e4", "e5"]);
}

/// A page of nothing is refused.
pub(super) async fn find_refuses_limit_zero(probe: Probe) {
    let result = probe.store.find(probe.tenant, &page(Order::NewestFirst, 0)).await;
    assert_fails(result, ErrorKind::Invalid, "limit 0 is refused");
}

/// The start of a range is in, its end is out, to the microsecond.
pub(super) async fn find_range_is_half_open(probe: Probe) {
    let micros = |name: &str, offset: i64| {
        event_with(name, 0, |event| {
            event.timestamp = Timestamp::from_micros(at(10).as_micros() + offset);
        })
    };
    probe
        .append(vec![
            micros("before", -1),
            micros("start", 0),
            micros("last", 999_999),
            micros("end", 1_000_000),
        ])
        .await;
    let range = TimeRange::new(at(10), at(11));
    let query = FindQuery { range, count_total: true, ..page(Order::OldestFirst, 10) };
    let found = probe.find(query).await;
    assert_eq!(super::probe::ids_of(&found.events), ["start", "last"]);
    assert_eq!(found.total, Some(2));
}

/// A range without instants holds nothing, also when it is written backwards.
pub(super) async fn find_empty_range(probe: Probe) {
    probe.append(vec![event("a", 10)]).await;
    for range in [TimeRange::new(at(10), at(10)), TimeRange::new(at(20), at(5))] {
        for order in [Order::NewestFirst, Order::OldestFirst] {
            let cursor = Cursor { timestamp: at(10), id: id("0") };
            for after in [None, Some(cursor)] {
                let query = FindQuery { range, after, count_total: true, ..page(order, 10) };
                let found = probe.find(query).await;
                assert!(found.events.is_empty() && found.next.is_none(), "{range:?} holds nothing");
                assert_eq!(found.total, Some(0));
            }
        }
    }
}

/// The total counts the matches in the range, wherever the page is; without being asked there is none.
pub(super) async fn find_counts_all_matches(probe: Probe) {
    let events = (0..20).map(|number| {
        event_with(&format!("e{number:02}"), number, |event| {
            event.source.service = Some(if number % 2 == 0 { "even" } else { "odd" }.into());
        })
    });
    probe.append(events.collect()).await;
    let query = FindQuery {
        range: TimeRange::new(at(0), at(15)),
        filter: Some(filter("source.service = 'even'")),
        count_total: true,
        ..page(Order::OldestFirst, 3)
    };
    let first = probe.find(query.clone()).await;
    assert_eq!(first.total, Some(8));
    let second = probe.find(FindQuery { after: first.next, ..query.clone() }).await;
    assert_eq!(second.total, Some(8), "the cursor does not change the total");
    let skipped = probe.find(FindQuery { skip: 100, ..query.clone() }).await;
    assert_eq!((skipped.events.len(), skipped.total), (0, Some(8)), "nor does what is passed over");
    assert_eq!(probe.find(FindQuery { count_total: false, ..query }).await.total, None);
}

/// `skip` passes over matches, after the cursor.
pub(super) async fn find_skips(probe: Probe) {
    probe.append((0..10).map(|number| event(&format!("e{number}"), number)).collect()).await;
    let query = FindQuery { skip: 3, ..page(Order::OldestFirst, 2) };
    assert_eq!(probe.ids(query.clone()).await, ["e3", "e4"]);
    let after = Some(Cursor { timestamp: at(4), id: id("e4") });
    assert_eq!(probe.ids(FindQuery { after, ..query }).await, ["e8", "e9"]);
    assert!(probe.ids(FindQuery { skip: 10, ..page(Order::NewestFirst, 2) }).await.is_empty());
}

/// `next` is there when something follows, and only then.
pub(super) async fn find_last_page_has_no_next(probe: Probe) {
    probe.append((0..4).map(|number| event(&format!("e{number}"), number)).collect()).await;
    assert_eq!(
        probe.find(page(Order::OldestFirst, 4)).await.next,
        None,
        "the page ends where the events end"
    );
    let cursor = probe.find(page(Order::OldestFirst, 3)).await.next;
    assert_eq!(
        cursor,
        Some(Cursor { timestamp: at(2), id: id("e2") }),
        "it names the last event of the page"
    );
    let filtered = FindQuery { filter: Some(filter("id <= 'e1'")), ..page(Order::OldestFirst, 2) };
    assert_eq!(probe.find(filtered).await.next, None, "what follows does not match");
}

/// A cursor is a place, not an event: it may name one that never existed.
pub(super) async fn find_cursor_of_an_absent_event(probe: Probe) {
    probe.append(vec![event("b", 5), event("d", 5), event("f", 6)]).await;
    let after = |timestamp, name: &str, order| FindQuery {
        after: Some(Cursor { timestamp, id: id(name) }),
        ..page(order, 10)
    };
    assert_eq!(probe.ids(after(at(5), "c", Order::OldestFirst)).await, ["d", "f"]);
    assert_eq!(probe.ids(after(at(5), "c", Order::NewestFirst)).await, ["b"]);
    assert_eq!(probe.ids(after(at(0), "z", Order::OldestFirst)).await, ["b", "d", "f"]);
    assert_eq!(probe.ids(after(at(9), "a", Order::NewestFirst)).await, ["f", "d", "b"]);
    assert!(probe.ids(after(at(9), "a", Order::OldestFirst)).await.is_empty());
}

/// An empty store answers with an empty page.
pub(super) async fn find_in_an_empty_store(probe: Probe) {
    let found = probe.find(FindQuery { count_total: true, ..FindQuery::default() }).await;
    assert!(found.events.is_empty() && found.next.is_none());
    assert_eq!(found.total, Some(0));
}
