//! Rules, channels, silences and routes: versions, names, isolation.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::probe::{Probe, at, firing, rule};
use crate::alerting::{
    AlertAction, Author, Channel, ChannelConfig, Inhibition, Matcher, Route, Routing, Rule, SecretText,
    Silence,
};
use crate::error::{ErrorKind, Result};
use crate::event::JsonObject;
use crate::id::{AlertId, ChannelId, RuleId, SilenceId};
use crate::ports::alert_store::{PutMode, RuleQuery};
use crate::testkit::run::{BoxFuture, concurrently};

impl Probe {
    async fn put(&self, rule: Rule, mode: PutMode) -> Result<Rule> {
        self.store.put_rule(self.tenant, rule, mode, &author()).await
    }

    async fn refused(&self, rule: Rule, mode: PutMode, kind: ErrorKind) {
        let error = self.put(rule, mode).await.expect_err("this put must be refused");
        assert_eq!(error.kind(), kind, "{mode:?}: {error}");
    }

    async fn revision(&self) -> u64 {
        let revisions = self.store.revisions(self.partition()).await.expect("revisions succeeds");
        revisions.iter().find(|(tenant, _)| *tenant == self.tenant).map_or(0, |(_, revision)| *revision)
    }
}

fn author() -> Author {
    Author::new("ann", at(7))
}

pub(super) fn silence(number: u128, from: i64, until: i64) -> Silence {
    Silence {
        id: SilenceId::from_u128(number),
        version: 0,
        matchers: vec![Matcher::equal("service", "shop")],
        starts_at: at(from),
        ends_at: at(until),
        created_by: "ann".into(),
        comment: "maintenance".into(),
        created_at: at(0),
        updated_at: at(0),
    }
}

pub(super) fn channel(number: u128, name: &str) -> Channel {
    let config = ChannelConfig::Webhook {
        url: "https://example.com/hook".into(),
        secrets: vec![SecretText::new("whsec_c2VjcmV0")],
        headers: vec![("x-team".into(), SecretText::new("ops"))],
    };
    Channel::new(ChannelId::from_u128(number), name, config)
}

/// A put that expects another version than the stored one is refused, and changes nothing.
pub(super) async fn rules_conflict_on_version(probe: Probe) {
    let first = probe.put(rule(1), PutMode::Create).await.expect("it is new");
    assert_eq!(first, Rule { version: 1, ..rule(1) });
    probe.refused(rule(1), PutMode::Create, ErrorKind::Conflict).await;
    for version in [0, 2, 7] {
        probe.refused(rule(1), PutMode::Replace { version }, ErrorKind::Conflict).await;
    }
    let renamed = Rule { name: "renamed".into(), ..first };
    let second = probe.put(renamed.clone(), PutMode::Replace { version: 1 }).await.expect("it is current");
    assert_eq!(second, Rule { version: 2, ..renamed });
    probe.refused(rule(1), PutMode::Replace { version: 1 }, ErrorKind::Conflict).await;
    let third = probe.put(rule(1), PutMode::Always).await.expect("whatever is there");
    assert_eq!(third.version, 3);
    let stored = probe.store.rule(probe.tenant, third.id).await.expect("rule succeeds");
    assert_eq!(stored, Some(third));
}

/// Two rules of a tenant never have one name.
pub(super) async fn rules_conflict_on_name(probe: Probe) {
    probe.put(rule(1), PutMode::Create).await.expect("it is new");
    probe.put(rule(2), PutMode::Create).await.expect("it is new");
    let clash = |number| Rule { name: "rule 1".into(), ..rule(number) };
    probe.refused(clash(3), PutMode::Create, ErrorKind::Conflict).await;
    probe.refused(clash(3), PutMode::Always, ErrorKind::Conflict).await;
    probe.refused(clash(2), PutMode::Replace { version: 1 }, ErrorKind::Conflict).await;
    assert_eq!(probe.store.rule(probe.tenant, RuleId::from_u128(3)).await.expect("succeeds"), None);
    let kept = probe.store.rule(probe.tenant, RuleId::from_u128(2)).await.expect("succeeds");
    assert_eq!(kept.map(|rule| rule.name), Some("rule 2".into()));
}

/// What is not there cannot be replaced.
pub(super) async fn rules_replace_needs_one(probe: Probe) {
    probe.refused(rule(1), PutMode::Replace { version: 1 }, ErrorKind::NotFound).await;
    probe.put(rule(1), PutMode::Create).await.expect("it is new");
    assert!(
        probe.store.delete_rule(probe.tenant, rule(1).id, None, &author()).await.expect("delete succeeds")
    );
    assert!(
        !probe.store.delete_rule(probe.tenant, rule(1).id, None, &author()).await.expect("delete succeeds")
    );
    probe.refused(rule(1), PutMode::Replace { version: 1 }, ErrorKind::NotFound).await;
}

/// The same ids and names at another tenant are other rules.
pub(super) async fn rules_are_isolated(probe: Probe) {
    let stranger = probe.stranger();
    probe.put(rule(1), PutMode::Create).await.expect("it is new");
    assert_eq!(stranger.store.rule(stranger.tenant, rule(1).id).await.expect("succeeds"), None);
    stranger.put(rule(1), PutMode::Create).await.expect("the tenant has none");
    stranger.put(Rule { name: "other".into(), ..rule(1) }, PutMode::Always).await.expect("its own");
    assert_eq!(probe.store.rules(probe.tenant, &RuleQuery::default()).await.expect("succeeds").total, 1);
    assert!(stranger.store.delete_rule(stranger.tenant, rule(1).id, None, &author()).await.expect("its own"));
    let kept = probe.store.rule(probe.tenant, rule(1).id).await.expect("succeeds");
    assert_eq!(kept, Some(Rule { version: 1, ..rule(1) }));
    assert!(probe.store.config(stranger.tenant, at(0)).await.expect("succeeds").rules.is_empty());
}

/// A name that was changed or deleted is free.
pub(super) async fn rules_names_given_up_can_be_taken(probe: Probe) {
    probe.put(rule(1), PutMode::Create).await.expect("it is new");
    probe.put(Rule { name: "renamed".into(), ..rule(1) }, PutMode::Always).await.expect("it is free");
    probe.put(Rule { name: "rule 1".into(), ..rule(2) }, PutMode::Create).await.expect("given up");
    assert!(
        probe.store.delete_rule(probe.tenant, rule(1).id, None, &author()).await.expect("delete succeeds")
    );
    probe.put(Rule { name: "renamed".into(), ..rule(3) }, PutMode::Create).await.expect("deleted");
}

/// Pages by cursor or by number visit each rule once, in the order of creation; ties ascend by id.
pub(super) async fn rules_pages_are_complete(probe: Probe) {
    for number in [5, 3, 1, 4, 2, 7, 6] {
        let created_at = at(if number > 4 { 9 } else { i64::try_from(number).unwrap_or(0) });
        let rule = Rule { is_active: number != 3, created_at, ..rule(number) };
        probe.put(rule, PutMode::Create).await.expect("it is new");
    }
    let numbers = |rules: &[Rule]| rules.iter().map(|rule| rule.id.as_u128()).collect::<Vec<_>>();
    let mut query = RuleQuery { limit: 2, ..RuleQuery::default() };
    let mut visited = Vec::new();
    loop {
        let page = probe.store.rules(probe.tenant, &query).await.expect("rules succeeds");
        assert_eq!(page.total, 7);
        visited.extend(numbers(&page.rules));
        query.after = page.next;
        if page.next.is_none() {
            break;
        }
    }
    assert_eq!(visited, [1, 2, 3, 4, 5, 6, 7]);
    let query = RuleQuery { is_active: Some(true), skip: 2, limit: 3, ..RuleQuery::default() };
    let page = probe.store.rules(probe.tenant, &query).await.expect("rules succeeds");
    assert_eq!((numbers(&page.rules), page.total), (vec![4, 5, 6], 6));
    let query = RuleQuery { is_active: Some(false), ..RuleQuery::default() };
    let page = probe.store.rules(probe.tenant, &query).await.expect("rules succeeds");
    assert_eq!((numbers(&page.rules), page.next), (vec![3], None));
}

/// Of concurrent writers with the same expectation one wins, and what it wrote is there.
pub(super) async fn rules_race_has_one_winner(probe: Probe) {
    for round in 1..6 {
        let wins = Arc::new(AtomicUsize::new(0));
        let writer = |number: u128| -> BoxFuture<'static, ()> {
            let (probe, wins) = (probe.clone(), wins.clone());
            Box::pin(async move {
                let rule = Rule { name: "wanted".into(), ..rule(round * 10 + number) };
                match probe.put(rule, PutMode::Create).await {
                    Ok(_) => wins.fetch_add(1, Ordering::Relaxed),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                        0
                    }
                };
            })
        };
        let harness = probe.harness.clone();
        concurrently(move |task| harness.block_on(task), (0..4).map(writer).collect()).await;
        assert_eq!(wins.load(Ordering::Relaxed), 1, "one has the name");
        let page = probe.store.rules(probe.tenant, &RuleQuery::default()).await.expect("rules succeeds");
        assert_eq!(page.total, 1);
        assert!(
            probe
                .store
                .delete_rule(probe.tenant, page.rules[0].id, None, &author())
                .await
                .expect("delete succeeds")
        );
    }
}

/// A delete that expects another version than the stored one is refused, and changes nothing; of a put and a delete of one version
/// at the same moment one succeeds.
pub(super) async fn deletes_conflict_on_version(probe: Probe) {
    let (store, tenant) = (&probe.store, probe.tenant);
    probe.put(rule(1), PutMode::Create).await.expect("it is new");
    let (channel, silence) = (channel(1, "ops"), silence(1, 0, 10));
    store.put_channel(tenant, channel.clone(), PutMode::Create, &author()).await.expect("it is new");
    store.put_silence(tenant, silence.clone(), PutMode::Create, &author()).await.expect("it is new");
    let before = probe.revision().await;
    for expected in [Some(0), Some(2)] {
        for refused in [
            store.delete_rule(tenant, rule(1).id, expected, &author()).await,
            store.delete_channel(tenant, channel.id, expected, &author()).await,
            store.delete_silence(tenant, silence.id, expected, &author()).await,
        ] {
            assert_eq!(refused.expect_err("another version is stored").kind(), ErrorKind::Conflict);
        }
    }
    assert_eq!(probe.revision().await, before, "a refusal changes nothing");
    assert!(store.rule(tenant, rule(1).id).await.expect("succeeds").is_some());
    assert!(store.delete_channel(tenant, channel.id, Some(1), &author()).await.expect("it is this one"));
    assert!(!store.delete_channel(tenant, channel.id, Some(1), &author()).await.expect("nothing is there"));
    assert!(store.delete_silence(tenant, silence.id, Some(1), &author()).await.expect("it is this one"));
    for _ in 0..6 {
        let (put, deleted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let writer = |is_put: bool| -> BoxFuture<'static, ()> {
            let (probe, done) = (probe.clone(), if is_put { put.clone() } else { deleted.clone() });
            Box::pin(async move {
                let succeeded = if is_put {
                    probe.put(rule(1), PutMode::Replace { version: 1 }).await.is_ok()
                } else {
                    probe
                        .store
                        .delete_rule(probe.tenant, rule(1).id, Some(1), &author())
                        .await
                        .is_ok_and(|it| it)
                };
                done.fetch_add(usize::from(succeeded), Ordering::Relaxed);
            })
        };
        let harness = probe.harness.clone();
        let writers = [true, false, true, false].map(writer).into();
        concurrently(move |task| harness.block_on(task), writers).await;
        let winners = (put.load(Ordering::Relaxed), deleted.load(Ordering::Relaxed));
        let left = store.rule(tenant, rule(1).id).await.expect("succeeds").map(|rule| rule.version);
        assert!(matches!((winners, left), ((1, 0), Some(2)) | ((0, 1), None)), "{winners:?}, {left:?}");
        store.delete_rule(tenant, rule(1).id, None, &author()).await.expect("succeeds");
        probe.put(rule(1), PutMode::Create).await.expect("it is gone");
    }
}

/// Returns a configuration of each type of channel.
fn channel_configs() -> Vec<ChannelConfig> {
    let settings = r#"{"team":"web","levels":[1,2.5],"deep":{"a":null}}"#;
    vec![
        ChannelConfig::Webhook {
            url: "https://example.com/hook".into(),
            secrets: vec![SecretText::new("whsec_c2VjcmV0")],
            headers: vec![("x-team".into(), SecretText::new("web"))],
        },
        ChannelConfig::Slack { url: SecretText::new("https://hooks.slack.com/services/x") },
        ChannelConfig::Email { to: vec!["ann@example.com".into()] },
        ChannelConfig::Custom {
            kind: "pager".into(),
            settings: JsonObject::parse(settings).expect("the settings are an object"),
        },
    ]
}

/// Channels, silences and routes come back as they were put, in their order, and go when they are deleted.
pub(super) async fn documents_read_what_was_written(probe: Probe) {
    let (store, tenant) = (&probe.store, probe.tenant);
    for (number, name) in [(1, "ops"), (2, "dev")] {
        let kept =
            store.put_channel(tenant, channel(number, name), PutMode::Create, &author()).await.expect("new");
        assert_eq!(kept, Channel { version: 1, ..channel(number, name) });
        assert_eq!(store.channel(tenant, kept.id).await.expect("succeeds"), Some(kept));
    }
    let clash =
        store.put_channel(tenant, channel(3, "ops"), PutMode::Create, &author()).await.expect_err("a clash");
    assert_eq!(clash.kind(), ErrorKind::Conflict);
    let names: Vec<_> =
        store.channels(tenant).await.expect("succeeds").into_iter().map(|channel| channel.name).collect();
    assert_eq!(names, ["dev", "ops"]);
    assert!(store.delete_channel(tenant, ChannelId::from_u128(2), None, &author()).await.expect("succeeds"));
    assert!(!store.delete_channel(tenant, ChannelId::from_u128(2), None, &author()).await.expect("succeeds"));
    assert_eq!(store.channels(tenant).await.expect("succeeds").len(), 1);
    for (number, config) in (11..).zip(channel_configs()) {
        let kept = Channel { config, ..channel(number, &format!("c{number}")) };
        let kept = store.put_channel(tenant, kept, PutMode::Create, &author()).await.expect("new");
        assert_eq!(store.channel(tenant, kept.id).await.expect("succeeds"), Some(kept.clone()));
        assert!(store.channels(tenant).await.expect("succeeds").contains(&kept));
    }
    for (number, from, until) in [(1, 20, 30), (2, 10, 40), (3, 0, 10)] {
        store
            .put_silence(tenant, silence(number, from, until), PutMode::Create, &author())
            .await
            .expect("new");
    }
    let listed = |active_at| async move {
        let silences = store.silences(tenant, active_at).await.expect("silences succeeds");
        silences.iter().map(|silence| silence.id.as_u128()).collect::<Vec<_>>()
    };
    assert_eq!(listed(None).await, [3, 2, 1]);
    assert_eq!(listed(Some(at(9))).await, [3, 2, 1]);
    assert_eq!(listed(Some(at(10))).await, [2, 1]);
    let id = SilenceId::from_u128(1);
    let kept = store.silence(tenant, id).await.expect("succeeds").expect("it is there");
    assert_eq!(kept, Silence { version: 1, ..silence(1, 20, 30) });
    let late = store.put_silence(tenant, kept.clone(), PutMode::Replace { version: 2 }, &author()).await;
    assert_eq!(late.expect_err("another version").kind(), ErrorKind::Conflict);
    assert!(store.delete_silence(tenant, id, None, &author()).await.expect("succeeds"));
    assert_eq!(store.silence(tenant, id).await.expect("succeeds"), None);
    assert_eq!(store.routing(tenant).await.expect("succeeds"), Routing::default());
    let routing = Routing {
        root: Route { group_by: Some(vec!["service".into()]), ..Route::default() },
        inhibitions: vec![Inhibition {
            source: vec![Matcher::equal("severity", "critical")],
            target: vec![Matcher::equal("severity", "low")],
            equal: vec!["service".into()],
        }],
        updated_at: at(5),
        ..Routing::default()
    };
    let kept =
        store.put_routing(tenant, routing.clone(), PutMode::Create, &author()).await.expect("the first");
    assert_eq!(kept, Routing { version: 1, ..routing.clone() });
    let again =
        store.put_routing(tenant, routing, PutMode::Create, &author()).await.expect_err("not the first");
    assert_eq!(again.kind(), ErrorKind::Conflict);
    assert_eq!(store.routing(tenant).await.expect("succeeds"), kept);
}

/// The configuration of a tenant is everything it has, read at once.
pub(super) async fn config_is_complete(probe: Probe) {
    let (store, tenant) = (&probe.store, probe.tenant);
    let empty = store.config(tenant, at(0)).await.expect("config succeeds");
    assert_eq!(empty, Default::default());
    let other = probe.stranger();
    store.put_channel(other.tenant, channel(1, "ops"), PutMode::Create, &author()).await.expect("new");
    for number in [3, 1, 2] {
        probe.put(rule(number), PutMode::Create).await.expect("new");
        store
            .put_channel(tenant, channel(number, &format!("c{number}")), PutMode::Create, &author())
            .await
            .expect("new");
        let until = i64::try_from(number).unwrap_or(0) * 10;
        store.put_silence(tenant, silence(number, 0, until), PutMode::Create, &author()).await.expect("new");
    }
    let routing =
        store.put_routing(tenant, Routing::default(), PutMode::Create, &author()).await.expect("new");
    let config = store.config(tenant, at(10)).await.expect("config succeeds");
    assert_eq!(config.rules, [1, 2, 3].map(|number| Rule { version: 1, ..rule(number) }));
    assert_eq!(config.channels.iter().map(|channel| channel.id.as_u128()).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(config.silences.iter().map(|silence| silence.id.as_u128()).collect::<Vec<_>>(), [2, 3]);
    assert_eq!((config.routing, config.revision), (routing, probe.revision().await));
}

/// Whatever changes the configuration, or is done to an alert by a person, moves the revision on; nothing else appears there.
pub(super) async fn revision_ascends(probe: Probe) {
    let (store, tenant) = (&probe.store, probe.tenant);
    let mut seen = BTreeSet::from([probe.revision().await]);
    let mut moved = async |what: &str| {
        let revision = probe.revision().await;
        assert!(seen.last().is_none_or(|last| revision > *last), "{what}: {revision} after {seen:?}");
        seen.insert(revision);
        assert_eq!(store.config(tenant, at(0)).await.expect("config succeeds").revision, revision);
    };
    probe.put(rule(1), PutMode::Create).await.expect("new");
    moved("put_rule").await;
    store.put_channel(tenant, channel(1, "ops"), PutMode::Create, &author()).await.expect("new");
    moved("put_channel").await;
    store.put_silence(tenant, silence(1, 0, 10), PutMode::Create, &author()).await.expect("new");
    moved("put_silence").await;
    store.put_routing(tenant, Routing::default(), PutMode::Create, &author()).await.expect("new");
    moved("put_routing").await;
    probe.committed(0, vec![firing(1)]).await;
    let action = AlertAction::Acknowledge { actor: "ann".into(), note: None, expires_at: None };
    store.act_on_alert(tenant, AlertId::from_u128(1), &action, at(2)).await.expect("it is open");
    moved("act_on_alert").await;
    assert!(store.delete_rule(tenant, rule(1).id, None, &author()).await.expect("succeeds"));
    moved("delete_rule").await;
    assert!(store.delete_channel(tenant, ChannelId::from_u128(1), None, &author()).await.expect("succeeds"));
    moved("delete_channel").await;
    assert!(store.delete_silence(tenant, SilenceId::from_u128(1), None, &author()).await.expect("succeeds"));
    moved("delete_silence").await;
    let before = probe.revision().await;
    let stranger = probe.stranger();
    stranger.put(rule(1), PutMode::Create).await.expect("new");
    assert_eq!(probe.revision().await, before, "another tenant's changes do not count");
}
