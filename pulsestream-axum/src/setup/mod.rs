//! `/setup`: a page for the person who starts the server first, and the call behind it.
//!
//! The link that `serve` prints holds the token in its fragment, which browsers send to nobody: it is in no log and no referrer.

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pulsestream_core::auth::{CompleteSetup, EnsuredAdmin, Secret};
use pulsestream_core::id::TenantId;
use pulsestream_core::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::{Access, From};
use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::input::Json;
use crate::operation::Routes;

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");
/// The page loads its own script and calls its own server, and nothing frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Adds the operations; while there is nothing to set up they are unknown paths.
pub(crate) fn routes(routes: &mut Routes) {
    routes
        .get("/setup", Access::Open, async |State(app): State<App>| {
            served(&app, PAGE, "text/html; charset=utf-8").await
        })
        .does("Returns the page on which the first administrator is made, while there is none.")
        .gives_media(200, "text/html")
        .fails(&[404]);
    routes
        .get("/setup.js", Access::Open, async |State(app): State<App>| {
            served(&app, SCRIPT, "text/javascript; charset=utf-8").await
        })
        .does("Returns the script of that page.")
        .gives_media(200, "text/javascript")
        .fails(&[404]);
    routes
        .post("/api/v2/setup", Access::Open, complete)
        .does("Makes the first tenant and its owner, with the token of the link that the server printed; it works once.")
        .takes::<SetupIn>()
        .gives::<SetupOut>(201)
        .fails(&[401, 404]);
}

async fn served(app: &App, text: &'static str, media_type: &'static str) -> Answer<Response> {
    if !app.ps.accounts().is_setup_open().await? {
        return Err(Failure::no_route());
    }
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(HeaderName::from_static("referrer-policy"), HeaderValue::from_static("no-referrer"));
    Ok(response)
}

/// The first tenant and its owner.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "token": "pss_...", "tenant_name": "Shop", "tenant_slug": "shop", "email": "ann@shop.example",
    "full_name": "Ann Example", "password": "a long enough secret"
}))]
struct SetupIn {
    /// What stands after `#` in the link.
    #[schema(value_type = String, max_length = 200)]
    token: Secret,
    #[schema(min_length = 2, max_length = 255)]
    tenant_name: String,
    #[schema(min_length = 2, max_length = 100)]
    tenant_slug: String,
    #[schema(min_length = 3, max_length = 254)]
    email: String,
    #[schema(min_length = 2, max_length = 100)]
    full_name: String,
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 1024)]
    password: Secret,
}

/// What was made.
#[derive(Debug, Serialize, ToSchema)]
struct SetupOut {
    #[schema(value_type = String)]
    tenant_id: TenantId,
    tenant_slug: String,
    email: String,
    /// The first API key, shown this once.
    api_key: String,
}

async fn complete(
    State(app): State<App>,
    from: From,
    Json(body): Json<SetupIn>,
) -> Answer<(StatusCode, axum::Json<SetupOut>)> {
    let request = CompleteSetup {
        token: body.token,
        tenant_name: body.tenant_name,
        tenant_slug: body.tenant_slug,
        email: body.email,
        full_name: body.full_name,
        password: body.password,
    };
    match app.ps.accounts().complete_setup(&request, &from.0).await? {
        EnsuredAdmin::Created { tenant, owner, api_key: Some(key), .. } => {
            let out = SetupOut {
                tenant_id: tenant.id,
                tenant_slug: tenant.slug,
                email: owner.email,
                api_key: key.expose().to_owned(),
            };
            Ok((StatusCode::CREATED, axum::Json(out)))
        }
        _ => Err(Error::new(ErrorKind::Internal, "setup.complete", "the first tenant has no key").into()),
    }
}
