//! Partitions: made when they are needed, dropped when nothing is left in them.

use std::time::Duration;

use pulsestream_core::env::Env;
use pulsestream_core::event::Event;
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::ports::event_store::{AppendOptions, EventStore};
use pulsestream_core::query::FindQuery;
use pulsestream_core::time::Timestamp;
use pulsestream_postgres::Postgres;

use crate::support::{config, direct, execute, fresh_schema, number, with_server};

const WEEK: Duration = Duration::from_secs(7 * 86_400);

fn at(name: &str, timestamp: Timestamp) -> Event {
    Event::new(EventId::new(name).unwrap(), "test", timestamp)
}

#[test]
fn partitions_follow_the_events_and_go_when_they_are_empty() {
    with_server(|url| async move {
        let schema = fresh_schema();
        let now: Timestamp = "2026-11-25T12:00:00Z".parse().unwrap();
        let (env, clock) = Env::manual(now, 1);
        let postgres = Postgres::connect(&url, config(schema.clone()), env).await.unwrap();
        let store = postgres.event_store().await.unwrap();
        let mut observer = direct(&url).await;
        let partitions =
            format!("select count(*) from pg_inherits where inhparent = '{schema}.events'::regclass");
        // This week, two ahead, and the common one.
        assert_eq!(number(&mut observer, &partitions).await, 4);
        let (ours, theirs) = (TenantId::from_name("a"), TenantId::from_name("b"));
        let old = now.minus(WEEK * 10);
        for tenant in [ours, theirs] {
            let batch = vec![at("now", now), at("old", old), at("ancient", Timestamp::EPOCH)];
            store.append(tenant, batch, AppendOptions::default()).await.unwrap();
        }
        assert_eq!(number(&mut observer, &partitions).await, 5);
        let common = format!("select count(*) from {schema}.events_other");
        assert_eq!(number(&mut observer, &common).await, 2);

        let before = now.minus(WEEK);
        assert_eq!(store.retain(ours, before).await.unwrap(), 2);
        assert_eq!(number(&mut observer, &partitions).await, 5, "another tenant has events in it");
        assert_eq!(store.retain(theirs, before).await.unwrap(), 2);
        assert_eq!(number(&mut observer, &partitions).await, 4);
        assert_eq!(number(&mut observer, &format!("select count(*) from {schema}.event_keys")).await, 2);

        // A week later the next partition is made before it is needed.
        clock.advance(WEEK * 2);
        store.append(ours, vec![at("later", now.plus(WEEK * 2))], AppendOptions::default()).await.unwrap();
        assert_eq!(number(&mut observer, &partitions).await, 6);
        postgres.close().await;
    });
}

#[test]
fn a_new_partition_takes_over_what_was_stored_before() {
    with_server(|url| async move {
        let schema = fresh_schema();
        let now: Timestamp = "2026-11-25T12:00:00Z".parse().unwrap();
        let (env, clock) = Env::manual(now, 1);
        let postgres = Postgres::connect(&url, config(schema.clone()), env).await.unwrap();
        let store = postgres.event_store().await.unwrap();
        let tenant = TenantId::from_name("a");
        let future = now.plus(WEEK * 8);
        store.append(tenant, vec![at("future", future)], AppendOptions::default()).await.unwrap();
        let mut observer = direct(&url).await;
        let common = format!("select count(*) from {schema}.events_other");
        assert_eq!(number(&mut observer, &common).await, 1);
        clock.advance(WEEK * 8);
        store.append(tenant, vec![at("then", future)], AppendOptions::default()).await.unwrap();
        assert_eq!(number(&mut observer, &common).await, 0);
        assert_eq!(store.find(tenant, &FindQuery::default()).await.unwrap().events.len(), 2);
        postgres.close().await;
    });
}

#[test]
fn a_partition_that_cannot_be_made_does_not_refuse_events() {
    with_server(|url| async move {
        let schema = fresh_schema();
        let now: Timestamp = "2026-11-25T12:00:00Z".parse().unwrap();
        let (env, _) = Env::manual(now, 1);
        let postgres = Postgres::connect(&url, config(schema.clone()), env).await.unwrap();
        let store = postgres.event_store().await.unwrap();
        let mut owner = direct(&url).await;
        execute(&mut owner, &format!("drop function {schema}.ensure_partition(timestamptz, timestamptz)"))
            .await;
        let tenant = TenantId::from_name("a");
        store.append(tenant, vec![at("old", now.minus(WEEK * 5))], AppendOptions::default()).await.unwrap();
        assert_eq!(store.find(tenant, &FindQuery::default()).await.unwrap().events.len(), 1);
        postgres.close().await;
    });
}
