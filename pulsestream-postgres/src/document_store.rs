//! Documents in a table.

use std::sync::Arc;

use async_trait::async_trait;
use pulsestream_core::error::Result;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::document_store::{Document, DocumentStore};

use crate::database::{Database, Scope, bound};
use crate::wire::{Columns, Param};

/// Keeps documents in a table.
#[derive(Debug)]
pub struct PostgresDocumentStore {
    database: Arc<Database>,
}

impl PostgresDocumentStore {
    pub(crate) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }

    fn table(&self) -> String {
        format!("{}.documents", self.database.schema())
    }
}

#[async_trait]
impl DocumentStore for PostgresDocumentStore {
    async fn document(&self, tenant: TenantId, name: &str) -> Result<Option<Document>> {
        if name.contains('\0') {
            return Ok(None);
        }
        let sql: Arc<str> = Arc::from(format!(
            "select body, updated_at from {} where tenant_id = $1 and name = $2",
            self.table()
        ));
        let params = [Param::uuid(tenant.as_u128()), Param::text(name)];
        self.database
            .read("document_store.document", Scope::Tenant(tenant), move |connection| {
                let statement = bound(sql.clone(), &params);
                Box::pin(async move {
                    let Some(row) = statement.fetch_optional(connection).await? else { return Ok(None) };
                    let mut columns = Columns::new(&row);
                    Ok(Some(Document { body: columns.str()?.into(), updated_at: columns.timestamp()? }))
                })
            })
            .await
    }

    async fn put_document(&self, tenant: TenantId, name: &str, document: Document) -> Result<()> {
        Document::check(name, &document)?;
        let sql: Arc<str> = Arc::from(format!(
            "insert into {} (tenant_id, name, body, updated_at) values ($1, $2, $3, $4) \
             on conflict (tenant_id, name) do update set body = excluded.body, updated_at = excluded.updated_at",
            self.table()
        ));
        let params = [
            Param::uuid(tenant.as_u128()),
            Param::text(name),
            Param::text(&document.body),
            Param::timestamp(document.updated_at),
        ];
        self.database
            .write("document_store.put", Scope::Tenant(tenant), move |connection| {
                let statement = bound(sql.clone(), &params);
                Box::pin(async move {
                    statement.execute(connection).await?;
                    Ok(())
                })
            })
            .await
    }

    async fn delete_documents(&self, tenant: TenantId) -> Result<u64> {
        let sql: Arc<str> = Arc::from(format!("delete from {} where tenant_id = $1", self.table()));
        let params = [Param::uuid(tenant.as_u128())];
        self.database
            .write("document_store.delete", Scope::Tenant(tenant), move |connection| {
                let statement = bound(sql.clone(), &params);
                Box::pin(async move { Ok(statement.execute(connection).await?.rows_affected()) })
            })
            .await
    }
}
