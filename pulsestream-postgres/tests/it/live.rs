//! Live messages between nodes.

use std::time::Duration;

use pulsestream_core::id::TenantId;
use pulsestream_core::ports::live_bus::{LiveBus, LiveMessage, LiveSubscription, LiveTopic};

use crate::support::{config, connect, fresh_schema, with_server};

#[test]
fn messages_reach_the_subscribers_of_other_nodes_once() {
    with_server(|url| async move {
        let schema = fresh_schema();
        let here = connect(&url, config(schema.clone())).await.live_bus(64).await.unwrap();
        let there = connect(&url, config(schema)).await.live_bus(64).await.unwrap();
        let (ours, theirs) = (TenantId::from_name("ours"), TenantId::from_name("theirs"));
        let mut subscriptions: Vec<Box<dyn LiveSubscription>> =
            vec![here.subscribe(ours).await.unwrap(), there.subscribe(ours).await.unwrap()];
        let message = |body: &str| LiveMessage { topic: LiveTopic::Event, body: body.into() };
        // Until the other one listens, which it does in the background.
        let ready = async {
            loop {
                here.publish(ours, vec![message("ready?")]).await.unwrap();
                let next = tokio::time::timeout(Duration::from_millis(100), subscriptions[1].next());
                if next.await.is_ok() {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), ready).await.unwrap();
        here.publish(theirs, vec![message("foreign")]).await.unwrap();
        let long = "\u{e4}".repeat(50_000);
        here.publish(ours, vec![message("same"), message("same"), message(&long), message("end")])
            .await
            .unwrap();
        for subscription in &mut subscriptions {
            let mut bodies = Vec::new();
            while bodies.last().map(String::as_str) != Some("end") {
                let next = tokio::time::timeout(Duration::from_secs(20), subscription.next());
                bodies.push(next.await.unwrap().unwrap().unwrap().body.into_string());
            }
            bodies.retain(|body| body != "ready?");
            assert_eq!(bodies, ["same", "same", long.as_str(), "end"]);
        }
    });
}
