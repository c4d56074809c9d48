//! `/api/v2/keys`.

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use pulsestream_core::auth::{ApiKeyInfo, CreateApiKey, NewApiKey, Scopes};
use pulsestream_core::id::ApiKeyId;
use pulsestream_core::time::{Timestamp, parse_duration};
use pulsestream_core::{ErrorKind, FieldError};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::Caller;
use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::input::{Json, Params, Query};
use crate::v2::cursor::{self, Pages, default_limit};

/// How long a key works on after its successor was made, when the request does not say.
const DEFAULT_OVERLAP: Duration = Duration::from_secs(86_400);

/// An API key, without its secret.
#[derive(Debug, ToSchema)]
#[schema(as = ApiKey)]
#[allow(dead_code, reason = "the schema of what the core writes")]
pub(super) struct KeyView {
    id: String,
    name: String,
    /// The public part.
    masked_key: String,
    scopes: Vec<String>,
    created_by: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<String>,
    /// To within minutes.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_used_at: Option<String>,
}

/// Which keys to list.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyListQuery {
    #[serde(default = "default_limit")]
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    limit: usize,
    /// Where the last page ended, from its `next_cursor`.
    cursor: Option<String>,
}

/// A page of keys.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKeyPage)]
pub(super) struct KeyPageOut {
    #[schema(value_type = Vec<KeyView>)]
    keys: Vec<ApiKeyInfo>,
    next_cursor: Option<String>,
    /// How many there are on all pages.
    total: usize,
}

/// A new key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "collector", "scopes": ["events:write"]}))]
pub(super) struct KeyIn {
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// `events:write`, `events:read`, `alerts:read`, `alerts:write`, `events:*`, `alerts:*`, `admin`.
    #[schema(min_items = 1, max_items = 16)]
    scopes: Vec<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// How to rotate.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"overlap": "1h"}))]
pub(super) struct RotateIn {
    /// How long the old key works on, such as `1h`; a day, when absent; at most `90d`.
    overlap: Option<String>,
}

/// A new key, shown this once.
#[derive(Serialize, ToSchema)]
#[schema(as = NewApiKey)]
pub(super) struct NewKeyV2 {
    key: String,
    #[schema(value_type = KeyView)]
    info: ApiKeyInfo,
}

impl From<NewApiKey> for NewKeyV2 {
    fn from(new: NewApiKey) -> Self {
        Self { key: new.key.expose().to_owned(), info: new.info }
    }
}

pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
    Query(query): Query<KeyListQuery>,
) -> Answer<Response> {
    let pages = Pages::of(&app, caller.tenant(), "keys", &());
    let after: Option<ApiKeyId> = pages.read(query.cursor.as_deref())?;
    let keys = app.ps.accounts().list_api_keys(&caller.principal, &caller.origin).await?;
    let total = keys.len();
    let (keys, next) = cursor::cut(keys, |key: &ApiKeyInfo| key.id, after.as_ref(), query.limit)?;
    let next_cursor = next.map(|next| pages.write(&next)).transpose()?;
    let page = KeyPageOut { keys, next_cursor, total };
    Ok(cursor::page(&uri, &page, page.next_cursor.as_deref()))
}

pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<KeyIn>,
) -> Answer<(StatusCode, axum::Json<NewKeyV2>)> {
    let scopes = Scopes::parse(body.scopes.iter().map(String::as_str))?;
    let request = CreateApiKey { name: body.name, scopes, expires_at: body.expires_at };
    let made = app.ps.accounts().create_api_key(&caller.principal, &request, &caller.origin).await?;
    Ok((StatusCode::CREATED, axum::Json(made.into())))
}

pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    params: Params,
) -> Answer<axum::Json<ApiKeyInfo>> {
    let id: ApiKeyId = params.id("key_id", unknown)?;
    let key = app.ps.accounts().api_key(&caller.principal, id, &caller.origin).await;
    key.map(axum::Json).map_err(as_unknown)
}

pub(super) async fn rotate(
    State(app): State<App>,
    caller: Caller,
    params: Params,
    Json(body): Json<RotateIn>,
) -> Answer<(StatusCode, axum::Json<NewKeyV2>)> {
    let id: ApiKeyId = params.id("key_id", unknown)?;
    let overlap = body.overlap.as_deref().map_or(Ok(DEFAULT_OVERLAP), parse_duration);
    let overlap = overlap.map_err(|error| {
        Failure::invalid_body(vec![FieldError::new("/overlap", "invalid_duration", error.message())])
    })?;
    let made = app.ps.accounts().rotate_api_key(&caller.principal, id, overlap, &caller.origin).await;
    Ok((StatusCode::CREATED, axum::Json(made.map_err(as_unknown)?.into())))
}

pub(super) async fn revoke(State(app): State<App>, caller: Caller, params: Params) -> Answer<StatusCode> {
    let id: ApiKeyId = params.id("key_id", unknown)?;
    app.ps.accounts().revoke_api_key(&caller.principal, id, &caller.origin).await.map_err(as_unknown)?;
    Ok(StatusCode::NO_CONTENT)
}

fn as_unknown(error: pulsestream_core::Error) -> Failure {
    if error.kind() == ErrorKind::NotFound { unknown() } else { error.into() }
}

fn unknown() -> Failure {
    Failure::not_found("keys.get", "there is no such API key")
}
