//! Open, make a rule, ingest, see the alert, search: the whole of PulseStream in a few lines.
#![allow(clippy::print_stdout, reason = "an example talks to people")]

use std::time::Duration;

use pulsestream::core::ports::alert_store::AlertQuery;
use pulsestream::prelude::*;

#[tokio::main]
async fn main() -> pulsestream::Result<()> {
    let ps = PulseStream::open("memory:").await?;
    let shop = ps.tenant(TenantId::from_name("shop"));
    shop.rules().create("Checkout fails", "count > 3 over 5m where severity >= 'error'", &["log"]).await?;
    for number in 0..5 {
        let mut event = Event::new(EventId::new(format!("order-{number}"))?, "order_failed", ps.env().now());
        event.severity = Severity::Error;
        event.source.service = Some("checkout".into());
        shop.ingest(event).await?;
    }
    let query = FindQuery { filter: Some("source.service = 'checkout'".parse()?), ..FindQuery::default() };
    println!("{} events found", shop.find(query).await?.events.len());
    let alert = loop {
        match shop.alerts().list(&AlertQuery::default()).await?.alerts.pop() {
            Some(alert) => break alert,
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    println!("alert: {} is {} ({})", alert.rule_name, alert.state, alert.summary);
    ps.close().await
}
