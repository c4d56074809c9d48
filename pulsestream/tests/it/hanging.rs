//! Receivers that hang, with the real background tasks: they delay nobody else.

use std::sync::Arc;
use std::time::Duration;

use pulsestream::core::alerting::{
    Author, Channel, ChannelConfig, Delivery, Labels, NotificationContent, NotificationKind,
};
use pulsestream::core::env::Env;
use pulsestream::core::id::{ChannelId, DeliveryId};
use pulsestream::core::ports::alert_store::PutMode;
use pulsestream::notify::egress::{EgressGuard, EgressPolicy};
use pulsestream::notify::{HttpConfig, WebhookNotifier};
use pulsestream::prelude::*;
use pulsestream_testtools::{HungReceiver, eventually_async};

use crate::forward::Forward;

/// Longer than anybody waits here.
const LONG: Duration = Duration::from_secs(50);

fn deliveries(channel: &Channel, numbers: std::ops::Range<u128>, now: Timestamp) -> Vec<Delivery> {
    let content = NotificationContent {
        kind: NotificationKind::Firing,
        title: "it burns".into(),
        message: "all of it".into(),
        group: Labels::new(),
        alerts: Vec::new(),
        omitted: 0,
    };
    let new = |number| {
        let id = DeliveryId::from_u128(number);
        Delivery::new(id, channel.id, channel.name.clone(), content.clone(), now, now)
    };
    numbers.map(new).collect()
}

/// Over memory, with notifiers for a pager and for webhooks that wait long.
async fn patient(forward: Arc<Forward>) -> PulseStream {
    let guard = EgressGuard::new(EgressPolicy::new().allow("127.0.0.1/32".parse().unwrap()));
    let patient = HttpConfig {
        deadline: LONG,
        connect_timeout: LONG,
        max_per_host: 1_000,
        max_per_host_and_tenant: 1_000,
        ..HttpConfig::default()
    };
    PulseStream::builder()
        .with_notifier(forward)
        .with_notifier(Arc::new(WebhookNotifier::new(guard, patient, Env::system()).unwrap()))
        .open("memory:")
        .await
        .unwrap()
}

fn hook(number: u128, receiver: &HungReceiver) -> Channel {
    let config = ChannelConfig::Webhook {
        url: format!("https://{}/", receiver.address).into(),
        secrets: Vec::new(),
        headers: Vec::new(),
    };
    Channel::new(ChannelId::from_u128(number), format!("hook{number}"), config)
}

async fn put(ps: &PulseStream, tenant: TenantId, channel: &Channel) {
    let author = Author::server(ps.env().now());
    ps.alert_store().put_channel(tenant, channel.clone(), PutMode::Create, &author).await.unwrap();
}

/// However many channels of a tenant hang: their attempts leave room for those of others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_whose_receivers_all_hang_delays_no_other_tenant() {
    let receiver = HungReceiver::silent().await;
    let (forward, mut notifications) = Forward::new();
    let ps = patient(forward).await;
    let [hung, shop] = ["hung", "shop"].map(|name| ps.tenant(TenantId::from_name(name)).id());
    let (pager, now) = (Forward::channel(100, "pager"), ps.env().now());
    put(&ps, shop, &pager).await;
    // Four of a channel are tried at once, so these would take up all the room there is and more.
    for number in 0..80 {
        let channel = hook(number, &receiver);
        put(&ps, hung, &channel).await;
        let waiting = deliveries(&channel, number * 4..number * 4 + 4, now);
        ps.outbox().enqueue(hung, waiting).await.unwrap();
    }
    receiver.holds(64).await;
    for number in 1_000..1_003 {
        ps.outbox().enqueue(shop, deliveries(&pager, number..number + 1, now)).await.unwrap();
        let told = tokio::time::timeout(LONG / 2, notifications.recv()).await.unwrap().unwrap();
        assert_eq!((told.tenant, told.channel.name.as_str()), (shop, "pager"));
    }
    assert!(receiver.clients() < 160, "{} attempts of one tenant", receiver.clients());
    drop(receiver);
    ps.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_hangs_in_its_handshake_delays_no_other_channel() {
    let receiver = HungReceiver::silent().await;
    let (forward, mut notifications) = Forward::new();
    let ps = patient(forward).await;
    let shop = ps.tenant(TenantId::from_name("shop")).id();
    let (hook, pager, now) = (hook(1, &receiver), Forward::channel(2, "pager"), ps.env().now());
    put(&ps, shop, &hook).await;
    put(&ps, shop, &pager).await;
    ps.outbox().enqueue(shop, deliveries(&hook, 0..8, now)).await.unwrap();
    receiver.holds(4).await;
    ps.outbox().enqueue(shop, deliveries(&pager, 8..11, now)).await.unwrap();
    for _ in 0..3 {
        let told = tokio::time::timeout(LONG / 2, notifications.recv()).await.unwrap().unwrap();
        assert_eq!(told.channel.name, "pager");
    }
    assert_eq!(receiver.clients(), 4, "the others wait for the first ones, which wait for the receiver");
    drop(receiver);
    eventually_async("the attempts have failed", async || {
        let mut failed = 0;
        for number in 0..8 {
            let found = ps.outbox().delivery(shop, DeliveryId::from_u128(number)).await.unwrap();
            failed += usize::from(found.is_some_and(|(delivery, _)| delivery.attempts > 0));
        }
        failed >= 4
    })
    .await;
    ps.close().await.unwrap();
}
