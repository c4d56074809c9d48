//! The log of changes: who, when, what.

use super::documents::{channel, silence};
use super::probe::{Probe, at, rule};
use crate::alerting::{Author, ConfigAction, ConfigChange, ConfigObject, Routing, Rule};
use crate::id::{ChannelId, SilenceId};
use crate::ports::alert_store::{ConfigChangeQuery, PutMode};

impl Probe {
    async fn log(&self, query: &ConfigChangeQuery) -> Vec<ConfigChange> {
        self.store.changes(self.tenant, query).await.expect("changes succeeds").changes
    }
}

fn by(actor: &str, second: i64) -> Author {
    Author::new(actor, at(second))
}

/// Every put and delete that changed something is in the log, with who, when and the fields; secrets are not, and what was refused
/// is not.
pub(super) async fn changes_tell_who_and_what(probe: Probe) {
    let (store, tenant) = (&probe.store, probe.tenant);
    let (ann, bob) = (by("user:ann", 5), by("user:bob", 6));
    let made = store.put_rule(tenant, rule(1), PutMode::Create, &ann).await.expect("new");
    store.put_rule(tenant, rule(1), PutMode::Create, &bob).await.expect_err("it is there");
    let renamed = Rule { name: "renamed".into(), is_active: false, ..made };
    store.put_rule(tenant, renamed, PutMode::Replace { version: 1 }, &bob).await.expect("the version");
    assert!(store.delete_rule(tenant, rule(1).id, None, &ann).await.expect("succeeds"));
    assert!(!store.delete_rule(tenant, rule(1).id, None, &ann).await.expect("succeeds"));
    store.put_channel(tenant, channel(1, "ops"), PutMode::Create, &ann).await.expect("new");
    store.put_silence(tenant, silence(1, 0, 10), PutMode::Create, &bob).await.expect("new");
    store.put_routing(tenant, Routing::default(), PutMode::Create, &bob).await.expect("new");

    let log = probe.log(&ConfigChangeQuery::default()).await;
    let told: Vec<_> = log
        .iter()
        .map(|change| {
            (change.object, change.action, change.version, change.author.actor.as_str(), change.name.as_str())
        })
        .collect();
    let (object, name) = (ConfigObject::Rule(rule(1).id), rule(1).name);
    let expected = [
        (ConfigObject::Routing, ConfigAction::Created, 1, "user:bob", ""),
        (ConfigObject::Silence(SilenceId::from_u128(1)), ConfigAction::Created, 1, "user:bob", ""),
        (ConfigObject::Channel(ChannelId::from_u128(1)), ConfigAction::Created, 1, "user:ann", "ops"),
        (object, ConfigAction::Deleted, 2, "user:ann", "renamed"),
        (object, ConfigAction::Changed, 2, "user:bob", "renamed"),
        (object, ConfigAction::Created, 1, "user:ann", name.as_str()),
    ];
    assert_eq!(told, expected);
    assert!(log.is_sorted_by(|later, earlier| later.revision > earlier.revision), "the latest comes first");
    let changed: Vec<_> = log[4]
        .fields
        .iter()
        .map(|field| (field.pointer.as_str(), field.before.clone(), field.after.clone()))
        .collect();
    let was = Some(name.as_str().into());
    let expected =
        [("/is_active", Some(true.into()), Some(false.into())), ("/name", was, Some("renamed".into()))];
    assert_eq!(changed, expected);
    assert_eq!((log[4].author.at, log[5].author.at), (at(6), at(5)));
    let text = serde_json::to_string(&log).expect("it is JSON");
    assert!(!text.contains("whsec_") && text.contains("***"), "secrets are masked: {text}");
}

/// Following `next` visits each entry once; one object can be asked for.
pub(super) async fn changes_have_pages(probe: Probe) {
    let (store, tenant) = (&probe.store, probe.tenant);
    for number in 1..=7 {
        let author = by("ann", i64::try_from(number).expect("small"));
        store.put_rule(tenant, rule(number), PutMode::Create, &author).await.expect("new");
    }
    for second in 10..13 {
        store.put_rule(tenant, rule(3), PutMode::Always, &by("bob", second)).await.expect("succeeds");
    }
    let all = probe.log(&ConfigChangeQuery::default()).await;
    assert_eq!(all.len(), 10);
    for limit in [1, 3, 10] {
        let mut query = ConfigChangeQuery { limit, ..ConfigChangeQuery::default() };
        let mut visited = Vec::new();
        loop {
            let page = store.changes(tenant, &query).await.expect("succeeds");
            assert!(page.changes.len() <= limit);
            visited.extend(page.changes);
            query.before = page.next;
            if page.next.is_none() {
                break;
            }
        }
        assert_eq!(visited, all, "pages of {limit}");
    }
    let object = Some(ConfigObject::Rule(rule(3).id));
    let of_one = probe.log(&ConfigChangeQuery { object, ..ConfigChangeQuery::default() }).await;
    assert_eq!(of_one.iter().map(|change| change.version).collect::<Vec<_>>(), [4, 3, 2, 1]);
    let query = ConfigChangeQuery { object, limit: 2, ..ConfigChangeQuery::default() };
    let first = store.changes(tenant, &query).await.expect("succeeds");
    let query = ConfigChangeQuery { before: first.next, ..query };
    let second = store.changes(tenant, &query).await.expect("succeeds");
    assert_eq!([first.changes, second.changes].concat(), of_one);
}

/// Entries from before a moment go, the oldest first, no more than asked; the rest stays.
pub(super) async fn changes_are_pruned(probe: Probe) {
    let (store, tenant) = (&probe.store, probe.tenant);
    for number in 1..=7 {
        let author = by("ann", i64::try_from(number).expect("small"));
        store.put_rule(tenant, rule(number), PutMode::Create, &author).await.expect("new");
    }
    let all = probe.log(&ConfigChangeQuery::default()).await;
    assert_eq!(store.prune_changes(tenant, at(7), 0).await.expect("succeeds"), 0);
    assert_eq!(store.prune_changes(tenant, at(7), 4).await.expect("succeeds"), 4);
    assert_eq!(probe.log(&ConfigChangeQuery::default()).await, all[..3]);
    assert_eq!(store.prune_changes(tenant, at(7), 4).await.expect("succeeds"), 2);
    assert_eq!(probe.log(&ConfigChangeQuery::default()).await, all[..1]);
}

/// The changes of another tenant do not appear, and pruning leaves them.
pub(super) async fn changes_are_isolated(probe: Probe) {
    let stranger = probe.stranger();
    probe.store.put_rule(probe.tenant, rule(1), PutMode::Create, &by("ann", 1)).await.expect("new");
    assert!(stranger.log(&ConfigChangeQuery::default()).await.is_empty());
    assert_eq!(stranger.store.prune_changes(stranger.tenant, at(100), 9).await.expect("succeeds"), 0);
    assert_eq!(probe.log(&ConfigChangeQuery::default()).await.len(), 1);
}
