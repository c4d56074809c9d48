//! Many at once who change the same records: everybody gets their turn.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pulsestream_core::Result;
use pulsestream_core::alerting::{Author, Rule, RuleKind};
use pulsestream_core::at_rest::KeyValueAlertStore;
use pulsestream_core::id::{RuleId, TenantId};
use pulsestream_core::memory::MemoryKeyValue;
use pulsestream_core::ports::alert_store::{AlertStore, PutMode, RuleQuery};
use pulsestream_core::ports::key_value::{Commit, CommitOutcome, KeyValue, Read, ReadResult};
use pulsestream_core::time::Timestamp;

/// A store that lets everybody else go on between a reading and the commit that follows from it, as one on a disk does.
#[derive(Debug, Default)]
struct Slow(MemoryKeyValue);

#[async_trait]
impl KeyValue for Slow {
    async fn read(&self, reads: Vec<Read>) -> Result<Vec<ReadResult>> {
        let answers = self.0.read(reads).await;
        tokio::task::yield_now().await;
        answers
    }

    async fn commit(&self, commit: Commit) -> Result<CommitOutcome> {
        self.0.commit(commit).await
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

#[tokio::test]
async fn two_hundred_changes_of_one_tenant_at_once_are_all_made() {
    let (store, tenant) =
        (Arc::new(KeyValueAlertStore::new(Arc::new(Slow::default()))), TenantId::from_name("shop"));
    let tasks: Vec<_> = (0..200_u128)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let kind = RuleKind::Absence { window: Duration::from_secs(60) };
                let rule = Rule::new(RuleId::from_u128(number), format!("rule {number}"), kind);
                store.put_rule(tenant, rule, PutMode::Create, &Author::server(Timestamp::EPOCH)).await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(store.rules(tenant, &RuleQuery::default()).await.unwrap().total, 200);
    assert_eq!(store.config(tenant, Timestamp::EPOCH).await.unwrap().revision, 200);
}
