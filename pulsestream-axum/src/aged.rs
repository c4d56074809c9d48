//! Answers that may be a little old: kept in the cache, with their age stated.

use std::future::Future;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::cache::CacheOptions;
use pulsestream_core::time::Timestamp;
use pulsestream_core::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::app::App;
use crate::failure::{Answer, Failure};

#[derive(Serialize, Deserialize)]
struct Kept {
    at: Timestamp,
    answer: Box<RawValue>,
}

/// An answer in JSON, with how long ago it was computed.
#[derive(Debug)]
pub(crate) struct Aged {
    pub(crate) text: String,
    age: Duration,
    max_age: Duration,
}

impl Aged {
    /// Says in headers how old the answer is, and how old it may become.
    pub(crate) fn state(&self, headers: &mut HeaderMap) {
        headers.insert(header::AGE, HeaderValue::from(self.age.as_secs()));
        if let Ok(value) = HeaderValue::from_str(&format!("private, max-age={}", self.max_age.as_secs())) {
            headers.insert(header::CACHE_CONTROL, value);
        }
    }
}

/// Answers a question as [`kept`] does. The header `Age` says how many seconds ago the answer was computed.
pub(crate) async fn answer<T, F>(app: &App, tenant: TenantId, key: &str, work: F) -> Answer<Response>
where
    T: Serialize,
    F: Future<Output = Answer<T>>,
{
    let aged = kept(app, tenant, key, work).await?;
    let mut response = Response::new(axum::body::Body::empty());
    aged.state(response.headers_mut());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *response.body_mut() = aged.text.into();
    Ok(response)
}

/// Answers a question from the cache when the answer there is young enough, else computes and keeps it.
///
/// `key` names the question with everything that it depends on, the tenant aside.
pub(crate) async fn kept<T, F>(app: &App, tenant: TenantId, key: &str, work: F) -> Answer<Aged>
where
    T: Serialize,
    F: Future<Output = Answer<T>>,
{
    let max_age = app.settings().http.dashboard_max_age;
    let fresh = |text: String| Aged { text, age: Duration::ZERO, max_age };
    if max_age.is_zero() {
        return Ok(fresh(written(&work.await?)?));
    }
    let slot = format!("dashboard:{key}");
    let now = app.ps.env().now();
    // A cache that does not answer costs time, not the answer.
    let found = app.ps.cache().get(tenant, &slot).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the cache does not answer");
        None
    });
    if let Some(found) = found.and_then(|found| serde_json::from_slice::<Kept>(&found).ok()) {
        return Ok(Aged { text: found.answer.get().to_owned(), age: now.since(found.at), max_age });
    }
    let text = written(&work.await?)?;
    let raw = RawValue::from_string(text.clone()).map_err(unwritable)?;
    let options = CacheOptions { ttl: max_age, tags: &["dashboard"] };
    if let Err(error) = app
        .ps
        .cache()
        .set(tenant, &slot, written(&Kept { at: now, answer: raw })?.into_bytes(), options)
        .await
    {
        tracing::warn!(%error, "an answer is not kept");
    }
    Ok(fresh(text))
}

fn written<T: Serialize>(value: &T) -> Answer<String> {
    serde_json::to_string(value).map_err(unwritable)
}

fn unwritable(error: serde_json::Error) -> Failure {
    Error::new(ErrorKind::Internal, "http.answer", "the answer cannot be written").with_source(error).into()
}
