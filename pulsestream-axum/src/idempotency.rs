//! The `Idempotency-Key` header: the first answer again, whoever asks how often.

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt;
use pulsestream_core::id::{TenantId, derive_uuid};
use pulsestream_core::ports::cache::CacheOptions;
use pulsestream_core::{Error, ErrorKind, Retry};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::access::Caller;
use crate::app::App;
use crate::body;
use crate::credentials::single;
use crate::failure::{Answer, Failure};

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Tells a client that an answer is a repetition.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const MAX_KEY_BYTES: usize = 255;
/// For how long an answer is kept.
const KEPT: Duration = Duration::from_secs(86_400);

/// A key of the client's, made unique for the operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdempotencyKey(u128);

impl IdempotencyKey {
    /// Reads the header.
    pub(crate) fn of(headers: &HeaderMap, operation: &'static str) -> Answer<Option<Self>> {
        if !headers.contains_key(&HEADER) {
            return Ok(None);
        }
        let key = single(headers, &HEADER).map(str::trim).filter(|key| key.len() <= MAX_KEY_BYTES);
        let key = key.ok_or_else(|| {
            let message =
                format!("Idempotency-Key must be given once, with 1 to {MAX_KEY_BYTES} printable characters");
            Failure::bad_request("invalid_idempotency_key", message)
        })?;
        Ok(Some(Self(derive_uuid(operation.as_bytes(), key.as_bytes()))))
    }

    /// Returns an id for the thing that the request makes: the same for the same key, so that a retry makes it once even
    /// when the first answer was forgotten.
    pub(crate) fn derive(self, tenant: TenantId, index: usize) -> u128 {
        let mut name = tenant.to_bytes().to_vec();
        name.extend_from_slice(&self.0.to_be_bytes());
        name.extend_from_slice(&(index as u64).to_be_bytes());
        derive_uuid(b"pulsestream.idempotency", &name)
    }
}

/// The requests with a key that this process works on.
#[derive(Debug, Default)]
pub(crate) struct Busy(Mutex<HashSet<(TenantId, u128)>>);

/// Holds a key until it is dropped.
struct Held<'b> {
    busy: &'b Busy,
    entry: (TenantId, u128),
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.busy.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.entry);
    }
}

impl Busy {
    fn hold(&self, tenant: TenantId, key: IdempotencyKey) -> Answer<Held<'_>> {
        let entry = (tenant, key.0);
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(entry) {
            return Ok(Held { busy: self, entry });
        }
        let message = "the first request under this Idempotency-Key is still worked on";
        let error = Error::new(ErrorKind::Conflict, "http.idempotency", message);
        Err(error.with_retry(Retry::After(Duration::from_secs(1))).into())
    }
}

/// What is kept of an answer.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Digest of the body that it answers.
    body: String,
    status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    answer: Box<RawValue>,
}

/// Where the answer under a key is kept, and for which body.
struct Slot<'a> {
    app: &'a App,
    tenant: TenantId,
    name: String,
    body: String,
    _held: Held<'a>,
}

impl<'a> Slot<'a> {
    /// Takes a key for a body; nobody else has it meanwhile.
    fn take(app: &'a App, tenant: TenantId, key: IdempotencyKey, body: &[u8]) -> Answer<Self> {
        let held = app.busy.hold(tenant, key)?;
        // Bodies have passwords and secrets of receivers in them: nobody can try out which body a digest is of.
        let digest = app.ps.accounts().seal("api.idempotency.body", &[body]);
        let body = digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { app, tenant, name: format!("idempotency:{:032x}", key.0), body, _held: held })
    }

    /// Returns the first answer again, if there was one.
    async fn repeated(&self) -> Answer<Option<Response>> {
        let Some(kept) = self.app.ps.cache().get(self.tenant, &self.name).await? else { return Ok(None) };
        let Ok(kept) = serde_json::from_slice::<Kept>(&kept) else { return Ok(None) };
        if kept.body != self.body {
            return Err(another_body());
        }
        let status = StatusCode::from_u16(kept.status).unwrap_or_default();
        let mut response = respond(status, Bytes::copy_from_slice(kept.answer.get().as_bytes()));
        let headers = response.headers_mut();
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
        if let Some(etag) = kept.etag.and_then(|etag| HeaderValue::from_str(&etag).ok()) {
            headers.insert(header::ETAG, etag);
        }
        Ok(Some(response))
    }

    /// Keeps the answer.
    async fn keep(self, status: StatusCode, etag: Option<&HeaderValue>, answer: String) -> Answer<()> {
        let answer = RawValue::from_string(answer).map_err(unwritable)?;
        let etag = etag.and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        let kept = serialize(&Kept { body: self.body, status: status.as_u16(), etag, answer })?;
        let options = CacheOptions { ttl: KEPT, tags: &[] };
        // The work is done: an answer that cannot be kept is an answer still.
        if let Err(error) = self.app.ps.cache().set(self.tenant, &self.name, kept.into_bytes(), options).await
        {
            tracing::warn!(%error, "an answer is not kept for its Idempotency-Key");
        }
        Ok(())
    }
}

/// Tells answers to keep from those that are true for now.
pub(crate) trait Final: Serialize {
    /// Returns whether the same request would get the same answer at any later time.
    fn is_final(&self) -> bool;

    /// Writes the answer; one that is written often may know a quicker way to the same text.
    fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

/// Returns whether no event was refused for now only: because of a limit, or because the store did not answer.
pub(crate) fn all_final<T>(outcomes: &[Result<T, Error>]) -> bool {
    let is_final = |error: &Error| error.retry() == Retry::Never;
    outcomes.iter().all(|outcome| outcome.as_ref().err().is_none_or(is_final))
}

/// Does something and answers; under a key the first success is kept for a day and repeated.
///
/// Another body under the same key is refused with 422. A failure is not kept, so that it can be tried again, and neither is an
/// answer that is not [`Final`]: one where something may be otherwise the next time.
pub(crate) async fn once<T, F>(
    app: &App,
    tenant: TenantId,
    key: Option<IdempotencyKey>,
    body: &[u8],
    status: StatusCode,
    work: F,
) -> Answer<Response>
where
    T: Final,
    F: Future<Output = Answer<T>>,
{
    let Some(key) = key else {
        return Ok(respond(status, work.await?.to_json().map_err(unwritable)?.into()));
    };
    let slot = Slot::take(app, tenant, key, body)?;
    if let Some(repeated) = slot.repeated().await? {
        return Ok(repeated);
    }
    let answer = work.await?;
    let is_final = answer.is_final();
    let answer = answer.to_json().map_err(unwritable)?;
    if is_final {
        slot.keep(status, None, answer.clone()).await?;
    }
    Ok(respond(status, answer.into()))
}

/// An operation that a key makes happen once.
#[derive(Debug, Clone)]
pub(crate) struct Repeatable {
    pub(crate) app: App,
    /// Its path.
    pub(crate) operation: &'static str,
}

/// Does what [`once`] does around the handler of an operation. It stands behind the guard: who may not call is not answered from
/// what is kept.
pub(crate) async fn repeatable(
    State(Repeatable { app, operation }): State<Repeatable>,
    request: Request,
    next: Next,
) -> Answer<Response> {
    let Some(key) = IdempotencyKey::of(request.headers(), operation)? else {
        return Ok(next.run(request).await);
    };
    let tenant = request.extensions().get::<Caller>().map(Caller::tenant).ok_or_else(|| {
        Error::new(ErrorKind::Internal, "http.idempotency", "an open operation cannot be repeatable")
    })?;
    let (mut parts, body) = request.into_parts();
    let (body, _reserved) = body::read(&app, Request::from_parts(parts.clone(), body)).await?;
    parts.extensions.insert(key);
    // It is read and decompressed by now.
    parts.headers.remove(header::CONTENT_ENCODING);
    parts.headers.remove(header::CONTENT_LENGTH);
    let slot = Slot::take(&app, tenant, key, &body)?;
    if let Some(repeated) = slot.repeated().await? {
        return Ok(repeated);
    }
    let response = next.run(Request::from_parts(parts, body.into())).await;
    if !response.status().is_success() {
        return Ok(response);
    }
    let (parts, answer) = response.into_parts();
    let answer = answer.collect().await.map_err(unwritable)?.to_bytes();
    if let Ok(text) = std::str::from_utf8(&answer) {
        slot.keep(parts.status, parts.headers.get(header::ETAG), text.to_owned()).await?;
    }
    Ok(Response::from_parts(parts, answer.into()))
}

/// Makes something whose id the key stands for, as [`IdempotencyKey::derive`] says; without a key it just makes it.
///
/// The answer to an earlier request may be forgotten, or kept by another node: the store knows still. `is_same` says whether the body
/// makes what it has, `version` whether that was changed since.
pub(crate) async fn make<T, F>(
    key: Option<IdempotencyKey>,
    find: impl Fn() -> F,
    is_same: impl Fn(&T) -> bool,
    make: impl Future<Output = Result<T, Error>>,
    answer: impl Fn(T) -> Response,
    version: fn(&T) -> u64,
) -> Answer<Response>
where
    F: Future<Output = Result<Option<T>, Error>>,
{
    let again = |stored: T| {
        if version(&stored) != 1 {
            let message = "what was made under this Idempotency-Key was changed since: look at it";
            return Err(Error::new(ErrorKind::Conflict, "http.idempotency", message).into());
        }
        if !is_same(&stored) {
            return Err(another_body());
        }
        let mut response = answer(stored);
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        Ok(response)
    };
    if key.is_some()
        && let Some(stored) = find().await?
    {
        return again(stored);
    }
    match make.await {
        Ok(made) => Ok(answer(made)),
        // Another node was faster.
        Err(error) if key.is_some() && error.kind() == ErrorKind::Conflict => {
            find().await?.map_or_else(|| Err(error.into()), again)
        }
        Err(error) => Err(error.into()),
    }
}

/// The refusal of a second body under a key.
pub(crate) fn another_body() -> Failure {
    let message = "this Idempotency-Key came with another body before";
    Failure::unprocessable("idempotency_key_reused", message)
}

fn serialize<T: Serialize>(value: &T) -> Answer<String> {
    serde_json::to_string(value).map_err(unwritable)
}

fn unwritable(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Error::new(ErrorKind::Internal, "http.answer", "the answer cannot be written").with_source(error).into()
}

fn respond(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(axum::body::Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
