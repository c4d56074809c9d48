//! `/api/v1`: the shapes that clients in the field speak. They do not change.

pub(crate) mod alerting;
mod auth;
mod dashboard;
mod error;
mod ingestion;

use serde::Serialize;
use utoipa::ToSchema;

use crate::operation::Routes;

pub(crate) use error::body as error_body;

/// Adds the operations of this version.
pub(crate) fn routes(routes: &mut Routes, accounts: bool) {
    if accounts {
        auth::routes(routes);
    }
    ingestion::routes(routes);
    alerting::routes(routes);
    dashboard::routes(routes);
}

/// An answer that says what was done.
#[derive(Debug, Serialize, ToSchema)]
struct Message {
    message: String,
}

impl Message {
    fn new(message: impl Into<String>) -> axum::Json<Self> {
        axum::Json(Self { message: message.into() })
    }
}
