//! The document store port: small things that a tenant keeps, by name.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;
use crate::time::Timestamp;

/// The longest name of a document, in bytes.
pub const MAX_DOCUMENT_NAME_BYTES: usize = 128;
/// The longest body of a document, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 64 << 10;

/// A small JSON document of a tenant, for example how its dashboard is laid out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// JSON.
    pub body: Box<str>,
    /// When it was put.
    pub updated_at: Timestamp,
}

impl Document {
    /// Refuses a name or a body that no store keeps.
    ///
    /// # Errors
    /// `Invalid` for a name that is empty, too long or holds U+0000; `TooLarge` for a body that is too long.
    pub fn check(name: &str, document: &Self) -> Result<()> {
        if name.is_empty() || name.len() > MAX_DOCUMENT_NAME_BYTES || name.contains('\0') {
            let message = "a document's name has 1 to 128 bytes and no U+0000";
            return Err(Error::invalid("document_store.put", "/name", "invalid_name", message));
        }
        if document.body.len() > MAX_DOCUMENT_BYTES {
            return Err(Error::new(ErrorKind::TooLarge, "document_store.put", "the document is too long")
                .with_context("bytes", document.body.len())
                .with_context("max_bytes", MAX_DOCUMENT_BYTES));
        }
        Ok(())
    }
}

/// Keeps documents of all tenants. The last put wins.
#[async_trait]
pub trait DocumentStore: fmt::Debug + Send + Sync + 'static {
    /// Returns the document with this name.
    ///
    /// # Contract
    /// - Returns what was put last (`documents_are_replaced`), and `None` for a name that was never put (`documents_may_be_absent`).
    /// - Another tenant's documents are absent (`documents_are_isolated`).
    async fn document(&self, tenant: TenantId, name: &str) -> Result<Option<Document>>;

    /// Puts a document in the place of the one with this name.
    ///
    /// # Contract
    /// - What [`Document::check`] refuses is refused, and nothing is changed (`documents_have_limits`).
    async fn put_document(&self, tenant: TenantId, name: &str, document: Document) -> Result<()>;

    /// Deletes every document of a tenant, and returns how many.
    ///
    /// # Contract
    /// - Only those of the tenant go (`documents_go_with_their_tenant`).
    async fn delete_documents(&self, tenant: TenantId) -> Result<u64>;
}
