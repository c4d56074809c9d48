//! What a reader of the log reads, and what it passes over.

use std::collections::BTreeSet;
use std::sync::Arc;

use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::{
    AppendOptions, EventStore, Partition, Position, TailOptions, TailedEvent,
};

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
