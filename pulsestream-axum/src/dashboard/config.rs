//! How a tenant's dashboard looks, kept by the server.

use axum::extract::State;
use pulsestream_core::error::FieldError;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::document_store::Document;
use pulsestream_core::time::Timestamp;
use pulsestream_core::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::access::Caller;
use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::input::Json;

/// The name of the document.
const NAME: &str = "dashboard.config";
const MAX_WIDGETS: usize = 100;
const MAX_TEXT_BYTES: usize = 100;
const REFRESH_SECONDS: std::ops::RangeInclusive<u32> = 1..=86_400;

/// The configuration of the dashboard. What is absent takes its default.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[schema(as = DashboardConfigIn)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ConfigIn {
    config: DashboardConfig,
    /// Whatever the front end keeps for people.
    user_preferences: Map<String, Value>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
struct DashboardConfig {
    /// Seconds between two refreshes, 1 to 86,400; 30.
    refresh_interval: u32,
    /// Whether it refreshes by itself; true.
    auto_refresh: bool,
    /// `light` by default.
    theme: String,
    layout: Layout,
}

#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[schema(as = DashboardLayout)]
#[serde(default, deny_unknown_fields)]
struct Layout {
    /// At most 100.
    widgets: Vec<PlacedWidget>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PlacedWidget {
    id: String,
    /// In the units of the front end.
    #[serde(default)]
    position: Map<String, Value>,
    /// In the units of the front end.
    #[serde(default)]
    size: Map<String, Value>,
}

/// The configuration, and when it was changed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DashboardConfigOut)]
pub(crate) struct ConfigOut {
    config: DashboardConfig,
    user_preferences: Map<String, Value>,
    /// Null as long as it is the default.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_updated: Option<Timestamp>,
}

impl Default for DashboardConfig {
    fn default() -> Self {
        Self {
            refresh_interval: 30,
            auto_refresh: true,
            theme: "light".to_owned(),
            layout: Layout::default(),
        }
    }
}

impl ConfigIn {
    fn check(&self) -> Vec<FieldError> {
        let mut fields = Vec::new();
        let mut refuse =
            |pointer: String, code, message: &str| fields.push(FieldError::new(pointer, code, message));
        let config = &self.config;
        if !REFRESH_SECONDS.contains(&config.refresh_interval) {
            refuse("/config/refresh_interval".to_owned(), "out_of_range", "must be from 1 to 86400 seconds");
        }
        let text = "must have 1 to 100 bytes";
        if config.theme.is_empty() || config.theme.len() > MAX_TEXT_BYTES {
            refuse("/config/theme".to_owned(), "out_of_range", text);
        }
        if config.layout.widgets.len() > MAX_WIDGETS {
            refuse("/config/layout/widgets".to_owned(), "too_many", "must be at most 100");
        }
        for (index, widget) in config.layout.widgets.iter().enumerate() {
            if widget.id.is_empty() || widget.id.len() > MAX_TEXT_BYTES {
                refuse(format!("/config/layout/widgets/{index}/id"), "out_of_range", text);
            }
        }
        fields
    }
}

pub(super) async fn get(State(app): State<App>, caller: Caller) -> Answer<axum::Json<ConfigOut>> {
    Ok(axum::Json(read(&app, caller.tenant()).await?))
}

pub(super) async fn put(
    State(app): State<App>,
    caller: Caller,
    Json(given): Json<ConfigIn>,
) -> Answer<axum::Json<ConfigOut>> {
    let fields = given.check();
    if !fields.is_empty() {
        return Err(Failure::invalid_body(fields));
    }
    let body = serde_json::to_string(&given).map_err(|error| {
        Error::new(ErrorKind::Internal, "dashboard.config", "the configuration cannot be written")
            .with_source(error)
    })?;
    let document = Document { body: body.into(), updated_at: app.ps.env().now() };
    app.ps.document_store().put_document(caller.tenant(), NAME, document).await?;
    Ok(axum::Json(read(&app, caller.tenant()).await?))
}

async fn read(app: &App, tenant: TenantId) -> Answer<ConfigOut> {
    let stored = app.ps.document_store().document(tenant, NAME).await?;
    let last_updated = stored.as_ref().map(|document| document.updated_at);
    let ConfigIn { config, user_preferences } = match stored {
        None => ConfigIn::default(),
        Some(document) => serde_json::from_str(&document.body).map_err(|error| {
            Error::new(ErrorKind::Corrupt, "dashboard.config", "the stored configuration cannot be read")
                .with_source(error)
        })?,
    };
    Ok(ConfigOut { config, user_preferences, last_updated })
}
