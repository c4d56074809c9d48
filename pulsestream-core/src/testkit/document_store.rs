//! What every [`DocumentStore`] promises, case by case.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::run::{BoxFuture, block_on, fresh_tenant};
use crate::error::ErrorKind;
use crate::ports::document_store::{Document, DocumentStore, MAX_DOCUMENT_BYTES, MAX_DOCUMENT_NAME_BYTES};
use crate::time::Timestamp;

/// What the suite needs to know about a document store.
#[async_trait]
pub trait DocumentStoreHarness: fmt::Debug + Send + Sync + 'static {
    /// Opens a fresh store without documents.
    async fn open(&self) -> Arc<dyn DocumentStore>;

    /// Runs a future to its end; several threads may ask at once.
    fn block_on(&self, future: BoxFuture<'static, ()>) {
        block_on(future);
    }
}

#[derive(Debug, Clone)]
struct Probe {
    store: Arc<dyn DocumentStore>,
}

impl Probe {
    async fn open(harness: Arc<dyn DocumentStoreHarness>) -> Self {
        Self { store: harness.open().await }
    }
}

fn document(body: &str, seconds: i64) -> Document {
    Document { body: body.into(), updated_at: Timestamp::from_seconds(seconds) }
}

super::suite! {
    $
    /// Lists every promise of a document store as a test; takes an expression that makes the harness.
    document_store_conformance, document_store, DocumentStoreHarness, Probe,
    [
        self: documents_may_be_absent, documents_are_replaced, documents_are_isolated, documents_have_limits,
            documents_go_with_their_tenant;
    ]
}

async fn documents_may_be_absent(probe: Probe) {
    let tenant = fresh_tenant();
    assert_eq!(probe.store.document(tenant, "layout").await.expect("read"), None);
    probe.store.put_document(tenant, "layout", document("{}", 1)).await.expect("put");
    for other in ["layou", "layout2", "Layout"] {
        assert_eq!(probe.store.document(tenant, other).await.expect("read"), None, "{other}");
    }
}

async fn documents_are_replaced(probe: Probe) {
    let tenant = fresh_tenant();
    for (body, seconds) in [("{\"a\":1}", 1), ("[]", 2), ("\"\u{e9}\"", 1)] {
        probe.store.put_document(tenant, "layout", document(body, seconds)).await.expect("put");
        let found = probe.store.document(tenant, "layout").await.expect("read");
        assert_eq!(found, Some(document(body, seconds)));
    }
}

async fn documents_are_isolated(probe: Probe) {
    let (ours, theirs) = (fresh_tenant(), fresh_tenant());
    probe.store.put_document(ours, "layout", document("1", 1)).await.expect("put");
    assert_eq!(probe.store.document(theirs, "layout").await.expect("read"), None);
    probe.store.put_document(theirs, "layout", document("2", 1)).await.expect("put");
    assert_eq!(probe.store.document(ours, "layout").await.expect("read"), Some(document("1", 1)));
}

async fn documents_have_limits(probe: Probe) {
    let tenant = fresh_tenant();
    let longest = "n".repeat(MAX_DOCUMENT_NAME_BYTES);
    let full = document(&format!("\"{}\"", "x".repeat(MAX_DOCUMENT_BYTES - 2)), 1);
    probe.store.put_document(tenant, &longest, full.clone()).await.expect("the longest fits");
    assert_eq!(probe.store.document(tenant, &longest).await.expect("read"), Some(full));
    for name in ["", "a\0b", &format!("{longest}n")] {
        let refused = probe.store.put_document(tenant, name, document("{}", 1)).await;
        assert_eq!(refused.expect_err("the name is refused").kind(), ErrorKind::Invalid);
    }
    let longer = document(&format!("\"{}\"", "x".repeat(MAX_DOCUMENT_BYTES - 1)), 1);
    let refused = probe.store.put_document(tenant, "layout", longer).await;
    assert_eq!(refused.expect_err("the body is refused").kind(), ErrorKind::TooLarge);
    assert_eq!(probe.store.document(tenant, "layout").await.expect("read"), None);
}

async fn documents_go_with_their_tenant(probe: Probe) {
    let (ours, theirs) = (fresh_tenant(), fresh_tenant());
    for name in ["a", "b"] {
        probe.store.put_document(ours, name, document("{}", 1)).await.expect("put");
    }
    probe.store.put_document(theirs, "a", document("{}", 1)).await.expect("put");
    assert_eq!(probe.store.delete_documents(ours).await.expect("delete"), 2);
    assert_eq!(probe.store.delete_documents(ours).await.expect("delete"), 0);
    assert_eq!(probe.store.document(ours, "a").await.expect("read"), None);
    assert!(probe.store.document(theirs, "a").await.expect("read").is_some());
}
