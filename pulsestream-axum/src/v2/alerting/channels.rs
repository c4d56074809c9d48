//! `/api/v2/channels`. Secrets go in and never come out.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use pulsestream_core::FieldError;
use pulsestream_core::alerting::{Channel, ChannelConfig, SecretText};
use pulsestream_core::id::{ChannelId, DeliveryId, TenantId};
use pulsestream_core::text::Text;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::part;
use super::shapes::ChannelView;
use crate::access::Caller;
use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::idempotency::{self, IdempotencyKey};
use crate::input::{Json, Params, Query};
use crate::v2::cursor::{self, Pages, default_limit};
use crate::v2::etag::{change, versioned};

/// Stands for a secret that is stored.
const MASK: &str = "***";

/// A place where notifications go.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "log", "config": {"type": "log"}}))]
pub(super) struct ChannelIn {
    /// Unique within the tenant.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// `{"type": "webhook", "url", "secrets"?, "headers"?}`, `{"type": "slack", "url"}`, `{"type": "email", "to": [..]}`,
    /// `{"type": "log"}`, or `{"type": "custom", "kind", "settings"?}`. Headers are pairs of name and value.
    #[schema(value_type = Object)]
    config: Value,
    /// Whether alerts that end are told too.
    #[serde(default = "yes")]
    #[schema(default = true)]
    send_resolved: bool,
    /// How many deliveries may be under way at once.
    #[schema(minimum = 1, maximum = 1000)]
    max_concurrency: Option<u16>,
}

const fn yes() -> bool {
    true
}

/// Which channels to list.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChannelListQuery {
    #[serde(default = "default_limit")]
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    limit: usize,
    /// Where the last page ended, from its `next_cursor`.
    cursor: Option<String>,
}

/// A page of channels.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChannelPage)]
pub(super) struct ChannelPageOut {
    #[schema(value_type = Vec<ChannelView>)]
    channels: Vec<Channel>,
    next_cursor: Option<String>,
    /// How many there are on all pages.
    total: usize,
}

/// The delivery of a test.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TestOut {
    /// What became of it is at `/api/v2/deliveries/{delivery_id}`.
    #[schema(value_type = String)]
    delivery_id: DeliveryId,
}

pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
    Query(query): Query<ChannelListQuery>,
) -> Answer<Response> {
    let pages = Pages::of(&app, caller.tenant(), "channels", &());
    let after: Option<Text> = pages.read(query.cursor.as_deref())?;
    let channels = app.ps.alert_store().channels(caller.tenant()).await?;
    let total = channels.len();
    let place = |channel: &Channel| channel.name.clone();
    let (channels, next) = cursor::cut(channels, place, after.as_ref(), query.limit)?;
    let next_cursor = next.map(|next| pages.write(&next)).transpose()?;
    let page =
        ChannelPageOut { channels: channels.iter().map(Channel::masked).collect(), next_cursor, total };
    Ok(cursor::page(&uri, &page, page.next_cursor.as_deref()))
}

pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    key: Option<Extension<IdempotencyKey>>,
    Json(body): Json<ChannelIn>,
) -> Answer<Response> {
    let (tenant, key) = (caller.tenant(), key.map(|Extension(key)| key));
    let id =
        ChannelId::from_u128(key.map_or_else(|| app.ps.env().uuid_v7(), |key| Ok(key.derive(tenant, 0)))?);
    let channel = body.into_channel(id, None)?;
    let wanted = channel.clone();
    idempotency::make(
        key,
        || app.ps.alert_store().channel(tenant, id),
        |stored| {
            let (version, created_at, updated_at) = (stored.version, stored.created_at, stored.updated_at);
            *stored == Channel { version, created_at, updated_at, ..wanted.clone() }
        },
        app.alerting(&caller).put_channel(tenant, channel, None),
        |channel| versioned(StatusCode::CREATED, channel.version, &channel.masked()),
        |channel| channel.version,
    )
    .await
}

pub(super) async fn get(State(app): State<App>, caller: Caller, params: Params) -> Answer<Response> {
    let channel = stored(&app, caller.tenant(), &params).await?;
    Ok(versioned(StatusCode::OK, channel.version, &channel.masked()))
}

pub(super) async fn replace(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    params: Params,
    Json(body): Json<ChannelIn>,
) -> Answer<Response> {
    let (tenant, channels, body) = (caller.tenant(), &app.alerting(&caller), &body);
    let put = |old: Channel, version| async move {
        let channel = body.clone().into_channel(old.id, Some(&old))?;
        Ok(channels.put_channel(tenant, channel, Some(version)).await?)
    };
    let channel = change(&headers, || stored(&app, tenant, &params), |channel| channel.version, put).await?;
    Ok(versioned(StatusCode::OK, channel.version, &channel.masked()))
}

pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    params: Params,
) -> Answer<StatusCode> {
    let (tenant, channels) = (caller.tenant(), &app.alerting(&caller));
    let delete = |channel: Channel, version| async move {
        Ok(channels.delete_channel(tenant, channel.id, Some(version)).await?)
    };
    change(&headers, || stored(&app, tenant, &params), |channel| channel.version, delete).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn test(
    State(app): State<App>,
    caller: Caller,
    params: Params,
) -> Answer<(StatusCode, axum::Json<TestOut>)> {
    let channel = stored(&app, caller.tenant(), &params).await?;
    let delivery_id = app.alerting(&caller).send_test(caller.tenant(), channel.id).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(TestOut { delivery_id })))
}

impl ChannelIn {
    fn into_channel(self, id: ChannelId, old: Option<&Channel>) -> Answer<Channel> {
        let config = part::<ChannelConfig>(self.config, "/config");
        let mut config = config.map_err(|field| Failure::invalid_body(vec![field]))?;
        if let Some(old) = old {
            keep_secrets(&mut config, &old.config);
        }
        if has_mask(&config) {
            let message =
                "`***` stands for a stored secret, and there is none for this address: send the secret";
            return Err(Failure::invalid_body(vec![FieldError::new("/config", "masked_secret", message)]));
        }
        let mut channel = Channel::new(id, self.name, config);
        channel.send_resolved = self.send_resolved;
        channel.max_concurrency = self.max_concurrency;
        channel.validate()?;
        Ok(channel)
    }
}

/// Puts stored secrets where the mask stands: by place for signing secrets, by name for headers. Only where the receiver stays
/// the same: a secret never goes to another address because somebody changed the address.
fn keep_secrets(new: &mut ChannelConfig, old: &ChannelConfig) {
    match (new, old) {
        (
            ChannelConfig::Webhook { url, secrets, headers },
            ChannelConfig::Webhook { url: old_url, secrets: old_secrets, headers: old_headers },
        ) if url == old_url => {
            for (new, old) in secrets.iter_mut().zip(old_secrets).filter(|(new, _)| is_masked(new)) {
                new.clone_from(old);
            }
            for (name, value) in headers.iter_mut().filter(|(_, value)| is_masked(value)) {
                if let Some((_, old)) = old_headers.iter().find(|(old, _)| old.eq_ignore_ascii_case(name)) {
                    value.clone_from(old);
                }
            }
        }
        (ChannelConfig::Slack { url }, ChannelConfig::Slack { url: old }) if is_masked(url) => {
            url.clone_from(old);
        }
        _ => {}
    }
}

fn is_masked(secret: &SecretText) -> bool {
    secret.expose() == MASK
}

/// Returns whether the mask stands where a secret belongs.
fn has_mask(config: &ChannelConfig) -> bool {
    match config {
        ChannelConfig::Webhook { secrets, headers, .. } => {
            secrets.iter().any(is_masked) || headers.iter().any(|(_, value)| is_masked(value))
        }
        ChannelConfig::Slack { url } => is_masked(url),
        _ => false,
    }
}

async fn stored(app: &App, tenant: TenantId, params: &Params) -> Answer<Channel> {
    let id: ChannelId = params.id("channel_id", unknown)?;
    app.ps.alert_store().channel(tenant, id).await?.ok_or_else(unknown)
}

fn unknown() -> Failure {
    Failure::not_found("channels.get", "there is no such channel")
}
