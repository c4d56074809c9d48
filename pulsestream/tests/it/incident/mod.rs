//! Alerting from the event to the message on real stores, in virtual time: the test steps what works in the background.

mod flapping;
mod kinds;
mod limits;
mod people;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pulsestream::core::alerting::delivery::{
    Dispatcher, DispatcherParts, DispatcherSettings, GroupingPlanner,
};
use pulsestream::core::alerting::engine::StreamingEngine;
use pulsestream::core::alerting::{
    Alert, AlertState, AlertingProcessor, ChannelRef, NotificationKind, ProcessorParts, ProcessorSettings,
    Routing, Rule, RuleExpression, RuleKind, TimelineKind,
};
use pulsestream::core::env::{Env, ManualClock, SystemEntropy};
use pulsestream::core::id::RuleId;
use pulsestream::core::ports::alert_store::AlertQuery;
use pulsestream::core::ports::event_store::Partition;
use pulsestream::core::ports::notifier::Notification;
use pulsestream::core::time::Timestamp;
use pulsestream::prelude::*;
use tokio::sync::mpsc;

use crate::forward::Forward;

/// When every incident begins.
const START: Timestamp = Timestamp::from_seconds(1_800_000_000);
/// How far time moves between two looks.
const LOOK: u64 = 5;

/// What was told: the second, the kind, the title and how many alerts.
type Told = (u64, NotificationKind, String, usize);

/// One tenant of an application whose processes come and go.
struct World {
    url: String,
    clock: Arc<ManualClock>,
    forward: Arc<Forward>,
    notifications: mpsc::UnboundedReceiver<Notification>,
    ps: PulseStream,
    shop: Tenant,
    processor: AlertingProcessor,
    dispatcher: Dispatcher,
    next_event: u128,
}

impl World {
    /// Opens the stores, with a channel `ops` to which everything goes.
    async fn open(url: &str) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let (forward, notifications) = Forward::new();
        let (ps, processor, dispatcher) = start(url, &clock, &forward).await;
        let shop = ps.tenant(TenantId::from_name("shop"));
        let channel = Forward::channel(1, "ops");
        ps.alerting().put_channel(shop.id(), channel, None).await.unwrap();
        let mut routing = Routing::default();
        routing.root.channels = Some(vec![ChannelRef::new("ops")]);
        ps.alerting().put_routing(shop.id(), routing, 0).await.unwrap();
        Self {
            url: url.to_owned(),
            clock,
            forward,
            notifications,
            ps,
            shop,
            processor,
            dispatcher,
            next_event: 0,
        }
    }

    /// The process ends and another one goes on where the stores say.
    async fn restart(&mut self) {
        self.processor.stop().await.unwrap();
        self.ps.close().await.unwrap();
        let (ps, processor, dispatcher) = start(&self.url, &self.clock, &self.forward).await;
        self.shop = ps.tenant(self.shop.id());
        (self.ps, self.processor, self.dispatcher) = (ps, processor, dispatcher);
    }

    fn now(&self) -> Timestamp {
        self.ps.env().now()
    }

    async fn rule(&self, number: u128, text: &str, change: impl FnOnce(&mut Rule)) -> Rule {
        let kind = RuleKind::Absence { window: Duration::from_secs(60) };
        let mut rule = Rule::new(RuleId::from_u128(number), format!("rule {number}"), kind);
        text.parse::<RuleExpression>().unwrap().apply_to(&mut rule);
        change(&mut rule);
        self.shop.rules().put(rule).await.unwrap()
    }

    /// Ingests an event of a service, now.
    async fn send(&mut self, service: &str, change: impl FnOnce(&mut Event)) {
        self.next_event += 1;
        let mut event = Event::new(EventId::from_u128(self.next_event), "call", self.now());
        event.source.service = Some(service.into());
        change(&mut event);
        self.shop.ingest(event).await.unwrap();
    }

    /// Does everything that can be done now.
    async fn settle(&mut self) {
        loop {
            let outcome = self.processor.step().await.unwrap();
            let dispatched = self.dispatcher.step(64).await.unwrap();
            if !outcome.has_more && outcome.effects == 0 && dispatched.attempts == 0 {
                return;
            }
        }
    }

    /// Lets time pass, a few seconds at a time.
    async fn pass(&mut self, seconds: u64) {
        self.pass_by(seconds, LOOK).await;
    }

    async fn pass_by(&mut self, seconds: u64, look: u64) {
        let mut left = seconds;
        self.settle().await;
        while left > 0 {
            let step = left.min(look);
            left -= step;
            self.clock.advance(Duration::from_secs(step));
            self.settle().await;
        }
    }

    /// Returns what was told since the last call.
    fn told(&mut self) -> Vec<Told> {
        let one = |Notification { at, delivery, .. }: Notification| {
            let content = delivery.content;
            (at.since(START).as_secs(), content.kind, content.title.to_string(), content.alerts.len())
        };
        std::iter::from_fn(|| self.notifications.try_recv().ok()).map(one).collect()
    }

    /// Returns all alerts, the first that started first.
    async fn alerts(&self) -> Vec<Alert> {
        let query = AlertQuery { include_unfired: true, limit: 1_000, ..AlertQuery::default() };
        let mut alerts = self.shop.alerts().list(&query).await.unwrap().alerts;
        alerts.reverse();
        alerts
    }

    async fn alerts_of(&self, rule: &Rule) -> Vec<Alert> {
        self.alerts().await.into_iter().filter(|alert| alert.rule == rule.id).collect()
    }

    /// Returns the changes of the alerts of a rule up to `end`, as text.
    async fn changes_of(&self, rule: &Rule, end: Timestamp) -> BTreeSet<String> {
        let mut changes = BTreeSet::new();
        for alert in self.alerts_of(rule).await {
            for entry in self.shop.alerts().timeline(alert.id).await.unwrap() {
                if let TimelineKind::Transition { from, to, value, reason } = entry.kind
                    && entry.at < end
                {
                    changes.insert(change(alert.id, entry.at, from, to, value, reason));
                }
            }
        }
        changes
    }
}

fn change(
    alert: impl std::fmt::Display,
    at: Timestamp,
    from: Option<AlertState>,
    to: AlertState,
    value: Option<f64>,
    reason: impl std::fmt::Debug,
) -> String {
    format!("{at} {from:?} -> {to:?} {value:?} {reason:?} {alert}")
}

/// Opens the stores and makes what works in the background, which nothing drives but the test.
async fn start(
    url: &str,
    clock: &Arc<ManualClock>,
    forward: &Arc<Forward>,
) -> (PulseStream, AlertingProcessor, Dispatcher) {
    let env = Env::new(clock.clone(), Arc::new(SystemEntropy));
    let builder =
        PulseStream::builder().with_env(env.clone()).with_rate_limiter(Arc::new(pulsestream::Unlimited));
    let ps = builder.without_background().open(url).await.unwrap();
    let holder = format!("{}", env.uuid_v7().unwrap());
    let parts = ProcessorParts {
        events: ps.event_store().clone(),
        alerts: ps.alert_store().clone(),
        coordinator: ps.coordinator().clone(),
        engine: Arc::new(StreamingEngine::default()),
        planner: Arc::new(GroupingPlanner::new(Vec::new())),
        listener: None,
        env: env.clone(),
        holder: holder.as_str().into(),
    };
    let partition = Partition::of(TenantId::from_name("shop"));
    let processor = AlertingProcessor::new(parts, ProcessorSettings::default(), partition);
    let parts = DispatcherParts {
        outbox: ps.outbox().clone(),
        alerts: ps.alert_store().clone(),
        events: ps.event_store().clone(),
        notifiers: vec![forward.clone()],
        server_channels: Vec::new(),
        env,
        holder: holder.as_str().into(),
    };
    (ps, processor, Dispatcher::new(parts, DispatcherSettings::default()))
}

/// Runs an incident in a folder.
async fn in_a_folder(incident: impl AsyncFn(&str)) {
    let folder = tempfile::tempdir().unwrap();
    incident(&folder.path().to_string_lossy()).await;
}

/// Runs an incident in a folder, and in PostgreSQL where the test run has one.
async fn on_real_stores(incident: impl AsyncFn(&str)) {
    in_a_folder(&incident).await;
    #[cfg(all(feature = "postgres", feature = "redis"))]
    if let Some((postgres, _)) = crate::server::servers() {
        incident(&crate::server::own_schema(&postgres)).await;
    }
}
