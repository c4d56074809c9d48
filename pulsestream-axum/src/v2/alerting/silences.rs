//! `/api/v2/silences`.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use pulsestream_core::alerting::{MatchOp, Matcher, Silence};
use pulsestream_core::id::{SilenceId, TenantId};
use pulsestream_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::actor;
use super::shapes::SilenceView;
use crate::access::Caller;
use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::idempotency::{self, IdempotencyKey};
use crate::input::{Json, Params, Query};
use crate::v2::cursor::{self, Pages, default_limit};
use crate::v2::etag::{change, versioned};

/// Which silences to list.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SilenceQuery {
    /// Whether those that have ended are left out.
    #[serde(default)]
    #[schema(default = false)]
    current: bool,
    #[serde(default = "default_limit")]
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    limit: usize,
    /// Where the last page ended, from its `next_cursor`.
    cursor: Option<String>,
}

/// A page of silences.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SilencePage)]
pub(super) struct SilencePageOut {
    #[schema(value_type = Vec<SilenceView>)]
    silences: Vec<Silence>,
    next_cursor: Option<String>,
    /// How many match on all pages.
    total: usize,
}

/// A silence.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "matchers": [{"label": "service", "op": "=", "value": "shop"}], "ends_at": "2100-01-01T00:00:00Z", "comment": "moving"
}))]
pub(super) struct SilenceIn {
    /// All of them must match.
    #[schema(min_items = 1, max_items = 32)]
    matchers: Vec<MatcherIn>,
    /// Now, when absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    starts_at: Option<Timestamp>,
    /// It does not apply at this instant any more.
    #[schema(value_type = String, format = DateTime)]
    ends_at: Timestamp,
    #[schema(max_length = 2000)]
    comment: Option<String>,
}

/// A condition on one label; `rule`, `rule_id` and `severity` stand for those of the alert.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Matcher)]
pub(super) struct MatcherIn {
    #[schema(min_length = 1, max_length = 256)]
    label: String,
    #[schema(value_type = MatchOpName)]
    op: MatchOp,
    #[schema(max_length = 1024)]
    value: String,
}

/// `=~` and `!~` take a regular expression for the whole value.
#[derive(Debug, ToSchema)]
#[schema(as = MatchOp)]
#[allow(dead_code, reason = "a schema")]
pub(super) enum MatchOpName {
    #[schema(rename = "=")]
    Equal,
    #[schema(rename = "!=")]
    NotEqual,
    #[schema(rename = "=~")]
    Matches,
    #[schema(rename = "!~")]
    DoesNotMatch,
}

pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
    Query(query): Query<SilenceQuery>,
) -> Answer<Response> {
    let pages = Pages::of(&app, caller.tenant(), "silences", &query.current);
    let after: Option<(Timestamp, SilenceId)> = pages.read(query.cursor.as_deref())?;
    let active_at = query.current.then(|| app.ps.env().now());
    let silences = app.ps.alert_store().silences(caller.tenant(), active_at).await?;
    let total = silences.len();
    let place = |silence: &Silence| (silence.starts_at, silence.id);
    let (silences, next) = cursor::cut(silences, place, after.as_ref(), query.limit)?;
    let next_cursor = next.map(|next| pages.write(&next)).transpose()?;
    let page = SilencePageOut { silences, next_cursor, total };
    Ok(cursor::page(&uri, &page, page.next_cursor.as_deref()))
}

pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    key: Option<Extension<IdempotencyKey>>,
    Json(body): Json<SilenceIn>,
) -> Answer<Response> {
    let (tenant, key) = (caller.tenant(), key.map(|Extension(key)| key));
    let id =
        SilenceId::from_u128(key.map_or_else(|| app.ps.env().uuid_v7(), |key| Ok(key.derive(tenant, 0)))?);
    let starts_now = body.starts_at.is_none();
    let silence = body.into_silence(id, &caller, app.ps.env().now())?;
    let wanted = silence.clone();
    idempotency::make(
        key,
        || app.ps.alert_store().silence(tenant, id),
        |stored| {
            (&stored.matchers, &stored.comment, stored.ends_at)
                == (&wanted.matchers, &wanted.comment, wanted.ends_at)
                && (starts_now || stored.starts_at == wanted.starts_at)
        },
        app.alerting(&caller).put_silence(tenant, silence, None),
        |silence| versioned(StatusCode::CREATED, silence.version, &silence),
        |silence| silence.version,
    )
    .await
}

pub(super) async fn get(State(app): State<App>, caller: Caller, params: Params) -> Answer<Response> {
    let silence = stored(&app, caller.tenant(), &params).await?;
    Ok(versioned(StatusCode::OK, silence.version, &silence))
}

pub(super) async fn replace(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    params: Params,
    Json(body): Json<SilenceIn>,
) -> Answer<Response> {
    let (tenant, silences) = (caller.tenant(), &app.alerting(&caller));
    let (app, caller, body) = (&app, &caller, &body);
    let put = |old: Silence, version| async move {
        let new = body.clone().into_silence(old.id, caller, app.ps.env().now())?;
        let silence = Silence { created_by: old.created_by, ..new };
        Ok(silences.put_silence(tenant, silence, Some(version)).await?)
    };
    let silence = change(&headers, || stored(app, tenant, &params), |silence| silence.version, put).await?;
    Ok(versioned(StatusCode::OK, silence.version, &silence))
}

pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    params: Params,
) -> Answer<StatusCode> {
    let (tenant, silences) = (caller.tenant(), &app.alerting(&caller));
    let delete = |silence: Silence, version| async move {
        Ok(silences.delete_silence(tenant, silence.id, Some(version)).await?)
    };
    change(&headers, || stored(&app, tenant, &params), |silence| silence.version, delete).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl SilenceIn {
    fn into_silence(self, id: SilenceId, caller: &Caller, now: Timestamp) -> Answer<Silence> {
        let matcher = |it: MatcherIn| Matcher { label: it.label.into(), op: it.op, value: it.value.into() };
        let silence = Silence {
            id,
            version: 0,
            matchers: self.matchers.into_iter().map(matcher).collect(),
            starts_at: self.starts_at.unwrap_or(now),
            ends_at: self.ends_at,
            created_by: actor(caller),
            comment: self.comment.unwrap_or_default().into(),
            created_at: now,
            updated_at: now,
        };
        silence.validate()?;
        Ok(silence)
    }
}

async fn stored(app: &App, tenant: TenantId, params: &Params) -> Answer<Silence> {
    let id: SilenceId = params.id("silence_id", unknown)?;
    app.ps.alert_store().silence(tenant, id).await?.ok_or_else(unknown)
}

fn unknown() -> Failure {
    Failure::not_found("silences.get", "there is no such silence")
}
