//! Extractors: what handlers read from requests. Their refusals have bodies of the API.

use std::str::FromStr;

use axum::RequestExt;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use crate::app::App;
use crate::body::JsonBytes;
use crate::failure::{Answer, Failure};

/// A JSON body, checked against its schema.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: ToSchema + DeserializeOwned + 'static> FromRequest<App> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Answer<Self> {
        let body: JsonBytes = request.extract_with_state(app).await?;
        app.shapes.read_json(&body).map(Self).map_err(Failure::invalid_body)
    }
}

/// The query, checked against its schema.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<T: ToSchema + DeserializeOwned + 'static> FromRequestParts<App> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Answer<Self> {
        let query = parts.uri.query().unwrap_or_default();
        app.shapes.read_query(query).map(Self).map_err(Failure::invalid_query)
    }
}

/// The parameters of the path, by their names; the host's own may be among them.
#[derive(Debug)]
pub(crate) struct Params(Vec<(String, String)>);

impl FromRequestParts<App> for Params {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Answer<Self> {
        // A parameter that is no UTF-8 names nothing that exists.
        let raw = RawPathParams::from_request_parts(parts, app).await.map_err(|_| Failure::no_route())?;
        Ok(Self(raw.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }
}

impl Params {
    /// Returns a parameter as text.
    pub(crate) fn text(&self, name: &str) -> Answer<&str> {
        // The last one of the name is ours.
        let found = self.0.iter().rev().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str()).ok_or_else(Failure::no_route)
    }

    /// Returns a parameter as an id. What cannot be an id is the id of nothing: the answer is that of an unknown one.
    pub(crate) fn id<T: FromStr>(&self, name: &str, unknown: impl FnOnce() -> Failure) -> Answer<T> {
        self.text(name)?.parse().map_err(|_| unknown())
    }
}
