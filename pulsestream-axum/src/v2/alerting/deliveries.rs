//! `/api/v2/deliveries`.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use pulsestream_core::FieldError;
use pulsestream_core::alerting::{Delivery, DeliveryStatus};
use pulsestream_core::id::{AlertId, ChannelId, DeliveryId};
use pulsestream_core::ports::outbox::{DeliveryAttempt, DeliveryCursor, DeliveryQuery, ReplaySelection};
use pulsestream_core::time::{TimeRange, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::shapes::{DeliveryStatusName, DeliveryView};
use crate::access::Caller;
use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::input::{Json, Params, Query};
use crate::v2::cursor::{self, Pages, default_limit};

/// Which deliveries to list.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeliveryListQuery {
    #[schema(value_type = Option<DeliveryStatusName>)]
    status: Option<DeliveryStatus>,
    channel_id: Option<String>,
    alert_id: Option<String>,
    /// When they were planned: the first instant inside.
    #[schema(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// The first instant after.
    #[schema(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    #[serde(default = "default_limit")]
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    limit: usize,
    /// Where the last page ended, from its `next_cursor`.
    cursor: Option<String>,
}

/// A page of deliveries.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeliveryPage)]
pub(super) struct DeliveryPageOut {
    #[schema(value_type = Vec<DeliveryView>)]
    deliveries: Vec<Delivery>,
    next_cursor: Option<String>,
}

fn range(from: Option<Timestamp>, to: Option<Timestamp>) -> Option<TimeRange> {
    let range = TimeRange::new(from.unwrap_or(Timestamp::MIN), to.unwrap_or(Timestamp::MAX));
    (from.is_some() || to.is_some()).then_some(range)
}

fn id<T: std::str::FromStr>(text: Option<&str>, name: &str) -> Result<Option<T>, FieldError> {
    let read = text.map(str::parse::<T>).transpose();
    read.map_err(|_| FieldError::new(format!("/{name}"), "invalid_id", "must be an id"))
}

pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
    Query(query): Query<DeliveryListQuery>,
) -> Answer<Response> {
    let wrong = |field| Failure::invalid_query(vec![field]);
    let mut asked = DeliveryQuery {
        status: query.status,
        channel: id::<ChannelId>(query.channel_id.as_deref(), "channel_id").map_err(wrong)?,
        alert: id::<AlertId>(query.alert_id.as_deref(), "alert_id").map_err(wrong)?,
        range: range(query.from, query.to),
        limit: 0,
        after: None,
    };
    let pages = Pages::of(&app, caller.tenant(), "deliveries", &asked);
    let after: Option<DeliveryCursor> = pages.read(query.cursor.as_deref())?;
    asked.limit = query.limit;
    asked.after = after;
    let found = app.ps.outbox().deliveries(caller.tenant(), &asked).await?;
    let next_cursor = found.next.map(|next| pages.write(&next)).transpose()?;
    let page = DeliveryPageOut { deliveries: found.deliveries, next_cursor };
    Ok(cursor::page(&uri, &page, page.next_cursor.as_deref()))
}

/// A delivery with its log.
#[derive(Debug, Serialize)]
pub(super) struct DeliveryOut {
    #[serde(flatten)]
    delivery: Delivery,
    log: Vec<DeliveryAttempt>,
}

pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    params: Params,
) -> Answer<axum::Json<DeliveryOut>> {
    let id: DeliveryId = params.id("delivery_id", unknown)?;
    let (delivery, log) = app.ps.outbox().delivery(caller.tenant(), id).await?.ok_or_else(unknown)?;
    Ok(axum::Json(DeliveryOut { delivery, log }))
}

/// How many deliveries are due again; those that wait are left alone.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Replayed {
    replayed: u64,
}

pub(super) async fn replay(
    State(app): State<App>,
    caller: Caller,
    params: Params,
) -> Answer<axum::Json<Replayed>> {
    let id: DeliveryId = params.id("delivery_id", unknown)?;
    app.ps.outbox().delivery(caller.tenant(), id).await?.ok_or_else(unknown)?;
    again(&app, &caller, &ReplaySelection::Ids(vec![id])).await
}

/// Which deliveries to send again: exactly one of `ids`, `range` and `dead`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"dead": true}))]
pub(super) struct ReplayIn {
    /// These; unknown ones are passed over.
    #[schema(min_items = 1, max_items = 1000)]
    ids: Option<Vec<String>>,
    /// All that were planned in a range, delivered ones too.
    range: Option<ReplayRange>,
    /// `true`: all that were given up.
    dead: Option<bool>,
    /// Only those of one channel; not with `ids`.
    channel_id: Option<String>,
}

/// When deliveries were planned.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayRange {
    /// The first instant inside.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// The first instant after; now, when absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
}

pub(super) async fn replay_many(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<ReplayIn>,
) -> Answer<axum::Json<Replayed>> {
    let wrong = |field| Failure::invalid_body(vec![field]);
    let channel = id::<ChannelId>(body.channel_id.as_deref(), "channel_id").map_err(wrong)?;
    let selection = match (body.ids, body.range, body.dead.unwrap_or_default()) {
        (Some(ids), None, false) if channel.is_none() => {
            let ids: Result<Vec<_>, _> = ids.iter().map(|id| id.parse::<DeliveryId>()).collect();
            let refused = |_| wrong(FieldError::new("/ids", "invalid_id", "must be ids of deliveries"));
            ReplaySelection::Ids(ids.map_err(refused)?)
        }
        (None, Some(range), false) => {
            let to = range.to.unwrap_or_else(|| app.ps.env().now());
            ReplaySelection::Range { range: TimeRange::new(range.from, to), channel }
        }
        (None, None, true) => ReplaySelection::Dead { channel },
        _ => {
            let message =
                "say which deliveries with exactly one of ids, range and dead; channel_id not with ids";
            return Err(wrong(FieldError::new("", "one_of", message)));
        }
    };
    again(&app, &caller, &selection).await
}

async fn again(app: &App, caller: &Caller, selection: &ReplaySelection) -> Answer<axum::Json<Replayed>> {
    let replayed = app.alerting(caller).replay_deliveries(caller.tenant(), selection).await?;
    Ok(axum::Json(Replayed { replayed }))
}

fn unknown() -> Failure {
    Failure::not_found("deliveries.get", "there is no such delivery")
}
