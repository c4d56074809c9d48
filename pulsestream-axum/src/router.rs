//! Puts the table, the guard and the surface together.

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, header};
use pulsestream::PulseStream;
use pulsestream_core::error::Result;
use tower_http::cors::CorsLayer;

use crate::app::App;
use crate::config::ApiConfig;
use crate::failure::Failure;
use crate::surface;

/// Returns the HTTP interface of a [`PulseStream`], to be served as it is or nested under any path of a host application.
///
/// It adds no global state, recorder, subscriber or panic hook. Serve it with connection info
/// (`into_make_service_with_connect_info::<SocketAddr>()`) so that the addresses of clients are known.
///
/// # Errors
/// `Invalid` for a configuration that is wrong.
pub fn router(ps: PulseStream, config: ApiConfig) -> Result<Router> {
    let app = App::new(ps, config)?;
    let cors = cors(&app.config.allowed_origins);
    let router = crate::operation::table(app.config.accounts)
        .into_router(&app)
        .fallback(async || Failure::no_route())
        .method_not_allowed_fallback(async || Failure::method_not_allowed())
        .layer(axum::middleware::from_fn_with_state(app.clone(), surface::surface))
        .with_state(app);
    Ok(match cors {
        Some(cors) => router.layer(cors),
        None => router,
    })
}

/// Lets pages of the named origins call, with credentials in headers and never with cookies.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    let origins: Vec<_> = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    if origins.is_empty() {
        return None;
    }
    let header = HeaderName::from_static;
    let asked = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header("idempotency-key"),
        header("last-event-id"),
        header("traceparent"),
        header("x-api-key"),
        header("x-request-id"),
    ];
    let shown = [
        header::AGE,
        header::CONTENT_DISPOSITION,
        header::ETAG,
        header::LINK,
        header::RETRY_AFTER,
        header("idempotency-replayed"),
        header("ratelimit"),
        header("ratelimit-policy"),
        header("x-request-id"),
    ];
    Some(
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
            .allow_headers(asked)
            .expose_headers(shown)
            .max_age(std::time::Duration::from_secs(3_600)),
    )
}
