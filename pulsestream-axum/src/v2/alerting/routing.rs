//! `/api/v2/routing`: routes, inhibitions and mute schedules.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use pulsestream_core::alerting::Routing;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::part;
use crate::access::Caller;
use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::input::Json;
use crate::v2::etag::{change, versioned};

/// Who is told about which alerts, and when nobody is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RoutingInput, example = json!({
    "root": {
        "channels": ["ops"], "group_by": ["source.service"],
        "timing": {"group_wait": "30s", "group_interval": "5m", "repeat_interval": "4h"},
        "routes": [{"matchers": [{"label": "severity", "op": "=", "value": "low"}], "mute_during": ["nights"]}]
    },
    "mute_schedules": [{
        "name": "nights", "time_zone": "Europe/Berlin", "intervals": [{"start_minute": 1320, "end_minute": 360}]
    }]
}))]
pub(super) struct RoutingIn {
    /// The route that every alert matches: `channels`, `group_by`, `timing`, `mute_during`, and `routes` with `matchers`.
    #[schema(value_type = Option<Object>)]
    root: Option<Value>,
    /// Alerts that keep others quiet: `source`, `target` and `equal`.
    #[schema(value_type = Option<Vec<Object>>)]
    inhibitions: Option<Value>,
    /// Times without notifications: `name`, `time_zone` and `intervals`.
    #[schema(value_type = Option<Vec<Object>>)]
    mute_schedules: Option<Value>,
}

/// Who is told about which alerts.
#[derive(Debug, ToSchema)]
#[schema(as = Routing)]
#[allow(dead_code, reason = "a schema")]
pub(super) struct RoutingView {
    /// The value of `ETag`; 0 while nothing was put.
    version: u64,
    root: Map<String, Value>,
    inhibitions: Option<Vec<Map<String, Value>>>,
    mute_schedules: Option<Vec<Map<String, Value>>>,
    #[schema(value_type = String, format = DateTime)]
    updated_at: String,
}

pub(super) async fn get(State(app): State<App>, caller: Caller) -> Answer<Response> {
    let routing = app.ps.alert_store().routing(caller.tenant()).await?;
    Ok(versioned(StatusCode::OK, routing.version, &routing))
}

pub(super) async fn replace(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Json(body): Json<RoutingIn>,
) -> Answer<Response> {
    let routing = body.into_routing()?;
    let (tenant, alerting) = (caller.tenant(), &app.alerting(&caller));
    let (store, routing) = (app.ps.alert_store(), &routing);
    let read = || async move { Ok(store.routing(tenant).await?) };
    let put = |_: Routing, version| async move {
        Ok(alerting.put_routing(tenant, routing.clone(), version).await?)
    };
    let routing = change(&headers, read, |routing| routing.version, put).await?;
    Ok(versioned(StatusCode::OK, routing.version, &routing))
}

impl RoutingIn {
    fn into_routing(self) -> Answer<Routing> {
        let wrong = |field| Failure::invalid_body(vec![field]);
        let mut routing = Routing::default();
        if let Some(root) = self.root {
            routing.root = part(root, "/root").map_err(wrong)?;
        }
        if let Some(inhibitions) = self.inhibitions {
            routing.inhibitions = part(inhibitions, "/inhibitions").map_err(wrong)?;
        }
        if let Some(schedules) = self.mute_schedules {
            routing.mute_schedules = part(schedules, "/mute_schedules").map_err(wrong)?;
        }
        Ok(routing)
    }
}
