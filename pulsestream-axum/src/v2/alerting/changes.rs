//! `/api/v2/changes`: who changed what in alerting.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use pulsestream_core::FieldError;
use pulsestream_core::alerting::{ConfigChange, ConfigObject};
use pulsestream_core::ports::alert_store::ConfigChangeQuery;
use pulsestream_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::access::Caller;
use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::input::Query;
use crate::v2::cursor::{self, Pages, default_limit};

/// Which changes to list.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeListQuery {
    /// Only those of one object: what it is. Goes with `id`, but for the routing.
    object: Option<ObjectKind>,
    /// Only those of one object: its id.
    id: Option<String>,
    #[serde(default = "default_limit")]
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    limit: usize,
    /// Where the last page ended, from its `next_cursor`.
    cursor: Option<String>,
}

/// What was changed.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ConfigObject)]
pub(super) enum ObjectKind {
    Rule,
    Channel,
    Silence,
    Routing,
}

/// A page of changes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChangePage)]
pub(super) struct ChangePageOut {
    #[schema(value_type = Vec<ChangeView>)]
    changes: Vec<ConfigChange>,
    next_cursor: Option<String>,
}

/// One change.
#[derive(Debug, ToSchema)]
#[schema(as = ConfigChange)]
#[allow(dead_code, reason = "a schema")]
pub(super) struct ChangeView {
    /// Ascends with every change of the tenant's alerting.
    revision: u64,
    /// Who: a user, an API key, `application`, or `pulsestream` for the server itself.
    actor: String,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    object: ObjectKind,
    /// Absent for the routing, of which there is one.
    id: Option<String>,
    /// Its name at that time; empty for what has none.
    name: String,
    /// `created`, `changed` or `deleted`.
    action: String,
    /// The version after it.
    version: u64,
    /// What is not what it was.
    fields: Vec<FieldChangeView>,
}

/// One field that a change touched; secrets are `***`.
#[derive(Debug, ToSchema)]
#[schema(as = FieldChange)]
#[allow(dead_code, reason = "a schema")]
pub(super) struct FieldChangeView {
    /// JSON pointer of the field.
    pointer: String,
    before: Option<Value>,
    after: Option<Value>,
}

pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
    Query(query): Query<ChangeListQuery>,
) -> Answer<Response> {
    let object =
        object(query.object, query.id.as_deref()).map_err(|field| Failure::invalid_query(vec![field]))?;
    let pages = Pages::of(&app, caller.tenant(), "changes", &object);
    let before: Option<u64> = pages.read(query.cursor.as_deref())?;
    let asked = ConfigChangeQuery { object, before, limit: query.limit };
    let found = app.ps.alerting().changes(caller.tenant(), &asked).await?;
    let next_cursor = found.next.map(|next| pages.write(&next)).transpose()?;
    let page = ChangePageOut { changes: found.changes, next_cursor };
    Ok(cursor::page(&uri, &page, page.next_cursor.as_deref()))
}

fn object(kind: Option<ObjectKind>, id: Option<&str>) -> Result<Option<ConfigObject>, FieldError> {
    let wrong = |_| FieldError::new("/id", "invalid_id", "must be an id");
    Ok(Some(match (kind, id) {
        (None, None) => return Ok(None),
        (Some(ObjectKind::Routing), None) => ConfigObject::Routing,
        (Some(ObjectKind::Rule), Some(id)) => ConfigObject::Rule(id.parse().map_err(wrong)?),
        (Some(ObjectKind::Channel), Some(id)) => ConfigObject::Channel(id.parse().map_err(wrong)?),
        (Some(ObjectKind::Silence), Some(id)) => ConfigObject::Silence(id.parse().map_err(wrong)?),
        _ => {
            let message = "object and id go together; the routing has no id";
            return Err(FieldError::new("/object", "one_of", message));
        }
    }))
}
