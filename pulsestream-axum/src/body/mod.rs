//! Reads bodies: bounded in size after decompression, and in time.

mod budget;
mod inflate;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use pulsestream_core::{Error, ErrorKind};

use crate::app::App;
use crate::credentials::single;
use crate::failure::{Answer, Failure};

pub(crate) use budget::{BodyBudget, Reserved};
use inflate::Coding;

/// Compressed bodies of more bytes than this are decompressed away from the threads that serve requests.
const INLINE_INFLATE_BYTES: usize = 64 << 10;

/// What a client announces is taken from the allocator at once up to so many bytes, so that reading it copies nothing twice.
const RESERVED_AHEAD_BYTES: usize = 1 << 20;

/// The bytes of a body that says it is JSON, decompressed.
#[derive(Debug)]
pub(crate) struct JsonBytes {
    bytes: Bytes,
    _reserved: Reserved,
}

impl std::ops::Deref for JsonBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl FromRequest<App> for JsonBytes {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Answer<Self> {
        if !is_json(request.headers()) {
            return Err(Failure::unsupported_media_type("the body must be application/json"));
        }
        let (bytes, reserved) = read(app, request).await?;
        Ok(Self { bytes, _reserved: reserved })
    }
}

/// Returns whether a body is JSON by its type. Clients that send no type at all send JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    if !headers.contains_key(header::CONTENT_TYPE) {
        return true;
    }
    let Some(value) = single(headers, &header::CONTENT_TYPE) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Reads the whole body of a request, and reserves memory for it.
pub(crate) async fn read(app: &App, request: Request) -> Answer<(Bytes, Reserved)> {
    let limits = &app.settings().http;
    let coding = Coding::of(request.headers())?;
    let mut reserved = app.bodies.empty();
    let collected = collect(request.into_body(), limits.max_body_bytes, &mut reserved);
    let raw =
        tokio::time::timeout(limits.body_timeout, collected).await.map_err(|_| Failure::slow_body())??;
    let Some(coding) = coding else { return Ok((raw, reserved)) };
    let (limit, ratio) = (limits.max_body_bytes, limits.max_inflate_ratio);
    if raw.len() <= INLINE_INFLATE_BYTES {
        let inflated = coding.inflate(&raw, limit, ratio, &mut reserved)?;
        return Ok((inflated, reserved));
    }
    let work = move || coding.inflate(&raw, limit, ratio, &mut reserved).map(|inflated| (inflated, reserved));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(Failure::panicked()))
}

async fn collect(mut body: Body, limit: usize, reserved: &mut Reserved) -> Answer<Bytes> {
    use http_body::Body as _;
    // What the client announces is refused before a byte of it is read.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| Failure::unreadable_body("the connection ended before the body did"))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + all.len() + data.len() > limit {
            return Err(too_large(limit));
        }
        reserved.grow(data.len())?;
        // Most bodies come in one piece, which needs no copy.
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            if all.is_empty() {
                let left = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
                all.reserve(first.len() + data.len() + left.min(RESERVED_AHEAD_BYTES));
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

fn too_large(limit: usize) -> Failure {
    Error::new(ErrorKind::TooLarge, "http.body", "the body has more bytes than max_body_bytes")
        .with_context("max_body_bytes", limit)
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_types() {
        let with =
            |value: &str| is_json(&HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().unwrap())]));
        assert!(is_json(&HeaderMap::new()));
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"] {
            assert!(with(good), "{good}");
        }
        for bad in ["text/plain", "text/json", "application/x-www-form-urlencoded", "application/jsonx", ""] {
            assert!(!with(bad), "{bad}");
        }
    }

    #[tokio::test]
    async fn the_limit_is_exact() {
        for pieces in [vec![10], vec![5, 5], vec![1; 10]] {
            let body =
                || Body::new(Pieces(pieces.iter().map(|length| Bytes::from(vec![b'x'; *length])).collect()));
            let budget = BodyBudget::new(100);
            assert_eq!(collect(body(), 10, &mut budget.empty()).await.unwrap().len(), 10);
            assert_eq!(collect(body(), 9, &mut budget.empty()).await.unwrap_err().status().as_u16(), 413);
            assert_eq!(budget.used(), 0);
        }
    }

    /// A body without an announced length.
    struct Pieces(std::collections::VecDeque<Bytes>);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
            std::task::Poll::Ready(self.0.pop_front().map(|data| Ok(http_body::Frame::data(data))))
        }
    }
}
