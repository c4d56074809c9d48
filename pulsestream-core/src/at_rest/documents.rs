//! The document store over the key-value port.

use std::sync::Arc;

use async_trait::async_trait;

use super::keys::documents;
use super::record::{decode, encode};
use super::transaction::delete_prefix;
use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;
use crate::ports::document_store::{Document, DocumentStore};
use crate::ports::key_value::{Commit, CommitOutcome, KeyValue, KeyValueExt};

/// Keeps documents in a [`KeyValue`] store.
#[derive(Debug, Clone)]
pub struct KeyValueDocumentStore {
    store: Arc<dyn KeyValue>,
}

impl KeyValueDocumentStore {
    /// Creates a document store over a store.
    pub fn new(store: Arc<dyn KeyValue>) -> Self {
        Self { store }
    }

    async fn commit(&self, commit: Commit) -> Result<()> {
        match self.store.commit(commit).await? {
            CommitOutcome::Committed => Ok(()),
            CommitOutcome::PreconditionFailed(_) => Err(Error::new(
                ErrorKind::Internal,
                "document_store.commit",
                "the store refused a commit that expects nothing",
            )),
        }
    }
}

#[async_trait]
impl DocumentStore for KeyValueDocumentStore {
    async fn document(&self, tenant: TenantId, name: &str) -> Result<Option<Document>> {
        let stored = self.store.get(documents::document(tenant, name)).await?;
        stored.map(|bytes| decode(&bytes, "document")).transpose()
    }

    async fn put_document(&self, tenant: TenantId, name: &str, document: Document) -> Result<()> {
        Document::check(name, &document)?;
        let mut commit = Commit::new();
        commit.put(documents::document(tenant, name), encode(&document)?);
        self.commit(commit).await
    }

    async fn delete_documents(&self, tenant: TenantId) -> Result<u64> {
        delete_prefix(&*self.store, "document_store.delete", documents::of_tenant(tenant)).await
    }
}
