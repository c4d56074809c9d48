//! What a reader of the log reads, and what it passes over.

use std::collections::BTreeSet;
use std::sync::Arc;

use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::{
    AppendOptions, EventStore, Partition, Position, TailOptions, TailedEvent,
};

use sqlx::Row;

use crate::support::{config, connect, direct, event, execute, fresh_schema, with_server};

#[test]
fn a_tail_for_some_tenants_does_not_read_the_events_of_others() {
    with_server(|url| async move {
        let schema = fresh_schema();
        let store = connect(&url, config(schema.clone())).await.event_store().await.unwrap();
        let mine = TenantId::from_u128(1);
        let partition = Partition::of(mine);
        let theirs = (2..).map(TenantId::from_u128).find(|other| Partition::of(*other) == partition).unwrap();
        for number in 0..40 {
            let tenant = if number % 10 == 3 { mine } else { theirs };
            let events = vec![event(&format!("e{number}"), number)];
            store.append(tenant, events, AppendOptions::default()).await.unwrap();
        }
        // Whoever reads an event of theirs fails.
        let sql = format!("update {schema}.events set payload = '17' where tenant_id = '{theirs}'");
        execute(&mut direct(&url).await, &sql).await;
        let all = store.tail(partition, Position::START, TailOptions::default()).await;
        assert!(all.is_err(), "{all:?}");

        let tenants = Some(Arc::new(BTreeSet::from([mine])));
        let options = TailOptions { limit: 25, tenants };
        let first = store.tail(partition, Position::START, options.clone()).await.unwrap();
        let second = store.tail(partition, first.next, options.clone()).await.unwrap();
        let ids = |batch: &[_]| {
            batch.iter().map(|tailed: &TailedEvent| tailed.event.id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            (ids(&first.events), first.caught_up),
            (vec!["e3".into(), "e13".into(), "e23".into()], false)
        );
        assert_eq!((ids(&second.events), second.caught_up), (vec!["e33".to_owned()], true));
        let rest = store.tail(partition, second.next, options).await.unwrap();
        assert_eq!(
            (rest.events.len(), rest.next, rest.caught_up),
            (0, second.next, true),
            "it is at the end"
        );
    });
}

#[test]
fn waiting_and_reading_do_not_walk_over_what_was_read() {
    with_server(|url| async move {
        let schema = fresh_schema();
        let node = connect(&url, config(schema.clone())).await;
        let store = node.event_store().await.unwrap();
        let tenant = TenantId::from_u128(1);
        let partition = Partition::of(tenant);
        let count = 20_000;
        for start in (0..count).step_by(5_000) {
            let events = (start..start + 5_000).map(|number| event(&format!("e{number}"), number)).collect();
            store.append(tenant, events, AppendOptions::default()).await.unwrap();
        }
        let mut owner = direct(&url).await;
        execute(&mut owner, &format!("analyze {schema}.event_keys")).await;
        let rows_read = async |owner: &mut _| -> (i64, i64) {
            let sql = "select coalesce(seq_tup_read, 0), coalesce(idx_tup_read, 0)::bigint from pg_stat_user_tables t \
                 join (select sum(idx_tup_read) as idx_tup_read from pg_stat_user_indexes \
                  where schemaname = $1 and relname = 'event_keys') i on true \
                 where schemaname = $1 and relname = 'event_keys'";
            let row = sqlx::query(sql).bind(schema.to_string()).fetch_one(owner).await.unwrap();
            (row.get(0), row.get(1))
        };
        let mut after = Position::START;
        for _ in 0..2 {
            let options = TailOptions { limit: 100, tenants: None };
            store.wait_for_events(partition, after).await.unwrap();
            after = store.tail(partition, after, options).await.unwrap().next;
        }
        // Far behind at first, at the end then.
        while let batch = store.tail(partition, after, TailOptions::default()).await.unwrap()
            && !batch.events.is_empty()
        {
            after = batch.next;
        }
        for _ in 0..3 {
            let nothing = store.wait_for_events(partition, after);
            assert!(tokio::time::timeout(std::time::Duration::from_millis(20), nothing).await.is_err());
        }
        // Sessions tell what they read when they end.
        node.close().await;
        let mut read = rows_read(&mut owner).await;
        for _ in 0..200 {
            if read.1 >= count {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            read = rows_read(&mut owner).await;
        }
        let (by_table, by_index) = read;
        // Each key when it is read, and perhaps when it is appended; not all of them again and again.
        assert!(by_table < count, "{by_table} rows");
        assert!(by_index < count * 3, "{by_index} rows");
    });
}
