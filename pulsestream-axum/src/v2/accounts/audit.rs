//! `/api/v2/audit`.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use pulsestream_core::id::AuditId;
use pulsestream_core::ports::identity::{AuditQuery, AuditRecord};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::Caller;
use crate::app::App;
use crate::failure::Answer;
use crate::input::Query;
use crate::v2::cursor::{self, Pages, default_limit};

/// Which entries to list.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditListQuery {
    #[serde(default = "default_limit")]
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    limit: usize,
    /// Where the last page ended, from its `next_cursor`.
    cursor: Option<String>,
}

/// An entry of the audit log.
#[derive(Debug, ToSchema)]
#[schema(as = AuditEntry)]
#[allow(dead_code, reason = "the schema of what the core writes")]
pub(super) struct AuditView {
    id: String,
    #[schema(value_type = String, format = DateTime)]
    at: String,
    /// What happened, for example `sign_in.failed`.
    action: String,
    /// Who did it, such as `user:ID`; `anonymous` before sign-in.
    actor: String,
    /// What it was done to, such as `api_key:ID`.
    target: Option<String>,
    /// The address it came from.
    address: Option<String>,
    detail: Option<String>,
}

/// A page of the audit log, the latest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditPage)]
pub(super) struct AuditPageOut {
    #[schema(value_type = Vec<AuditView>)]
    entries: Vec<AuditRecord>,
    next_cursor: Option<String>,
}

pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
    Query(query): Query<AuditListQuery>,
) -> Answer<Response> {
    let pages = Pages::of(&app, caller.tenant(), "audit", &());
    let before: Option<AuditId> = pages.read(query.cursor.as_deref())?;
    let asked = AuditQuery { before, limit: query.limit };
    let entries = app.ps.accounts().audit_log(&caller.principal, &asked, &caller.origin).await?;
    // A page that is not full is the last; a full one may be followed by an empty one.
    let last = entries.last().filter(|_| entries.len() == query.limit).map(|entry| entry.id);
    let next_cursor = last.map(|id| pages.write(&id)).transpose()?;
    let page = AuditPageOut { entries, next_cursor };
    Ok(cursor::page(&uri, &page, page.next_cursor.as_deref()))
}
