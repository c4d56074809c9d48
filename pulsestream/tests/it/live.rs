//! Following what happens now.

use std::time::Duration;

use pulsestream::ErrorKind;
use pulsestream::core::ports::live_bus::{LiveMessage, LiveSubscription, LiveTopic};
use pulsestream::core::settings::Settings;
use pulsestream::prelude::*;

/// Waits for the next message, with a limit that only a broken feed reaches.
pub(crate) async fn next(feed: &mut Box<dyn LiveSubscription>) -> Option<LiveMessage> {
    tokio::time::timeout(Duration::from_secs(30), feed.next()).await.expect("a message in time").unwrap()
}

fn event(ps: &PulseStream, id: &str) -> Event {
    Event::new(EventId::new(id).unwrap(), "order_placed", ps.env().now())
}

pub(crate) fn id_of(message: Option<LiveMessage>) -> String {
    let message = message.expect("a message");
    assert_eq!(message.topic, LiveTopic::Event);
    let event: Event = serde_json::from_str(&message.body).unwrap();
    event.id.as_str().to_owned()
}

#[tokio::test]
async fn a_feed_has_what_is_stored_after_it_began_and_nothing_of_others() {
    let ps = PulseStream::open("memory:").await.unwrap();
    let [shop, neighbour] = ["shop", "neighbour"].map(|name| ps.tenant(TenantId::from_name(name)));
    shop.ingest(event(&ps, "before")).await.unwrap();
    let mut feed = shop.live().await.unwrap();
    let mut second = shop.live().await.unwrap();
    neighbour.ingest(event(&ps, "theirs")).await.unwrap();
    shop.ingest(event(&ps, "ours")).await.unwrap();
    assert!(shop.ingest(event(&ps, "ours")).await.unwrap().duplicate);
    shop.ingest(event(&ps, "last")).await.unwrap();
    for feed in [&mut feed, &mut second] {
        assert_eq!(id_of(next(feed).await), "ours");
        assert_eq!(id_of(next(feed).await), "last");
        assert_eq!(feed.missed(), 0);
    }
    drop((feed, second));
    let mut later = shop.live().await.unwrap();
    shop.ingest(event(&ps, "later")).await.unwrap();
    assert_eq!(id_of(next(&mut later).await), "later");
    ps.close().await.unwrap();
    assert_eq!(next(&mut later).await, None, "the feed ends with the pipeline");
    assert_eq!(shop.live().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_slow_follower_learns_what_it_missed_and_holds_up_nobody() {
    let ps = PulseStream::builder().with_settings(unlimited()).open("memory:").await.unwrap();
    let shop = ps.tenant(TenantId::from_name("shop"));
    let mut slow = shop.live().await.unwrap();
    let mut watcher = shop.live().await.unwrap();
    const EVENTS: usize = 3_000;
    for batch in 0..3 {
        let events = (0..1_000).map(|number| event(&ps, &format!("e{}", batch * 1_000 + number))).collect();
        assert!(shop.ingest_batch(events).await.unwrap().iter().all(Result::is_ok));
    }
    let (mut seen, mut missed) = (0, 0);
    while id_of(next(&mut watcher).await) != "e2999" {
        seen += 1;
        missed += watcher.missed();
    }
    missed += watcher.missed();
    assert_eq!(seen + 1 + missed, EVENTS as u64, "received and missed are all there were");
    let first = id_of(next(&mut slow).await);
    assert_eq!(slow.missed(), (EVENTS - 1_024) as u64);
    assert_eq!(first, format!("e{}", EVENTS - 1_024));
}

fn unlimited() -> Settings {
    let mut settings = Settings::default();
    settings.ingest.rate_limit_per_minute = 1_000_000;
    settings.ingest.rate_limit_burst = 1_000_000;
    settings
}
