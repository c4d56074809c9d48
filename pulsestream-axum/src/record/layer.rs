//! The tower layer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::{Request, Response};
use tower::{Layer, Service};

use super::body::RecordedBody;
use super::event::Seen;
use super::recorder::Shared;

/// The layer that records each request of the services it wraps; see [`RequestRecorder`](super::RequestRecorder).
///
/// It works on any tower service of `http` requests and responses. Around an axum `Router` (`Router::layer`) it knows the
/// route of each request.
#[derive(Debug, Clone)]
pub struct RecordRequests {
    shared: Arc<Shared>,
}

impl RecordRequests {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl<S> Layer<S> for RecordRequests {
    type Service = RecordService<S>;

    fn layer(&self, inner: S) -> RecordService<S> {
        RecordService { inner, shared: self.shared.clone() }
    }
}

/// The service that [`RecordRequests`] makes.
#[derive(Debug, Clone)]
pub struct RecordService<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S, B, R> Service<Request<B>> for RecordService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    R: http_body::Body,
{
    type Response = Response<RecordedBody<R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let seen = Seen::of(self.shared.clone(), &request);
        let answer = self.inner.call(request);
        Box::pin(async move {
            match answer.await {
                Ok(response) => {
                    let (parts, body) = response.into_parts();
                    let pending = seen.answered(parts.status, &parts.headers);
                    Ok(Response::from_parts(parts, RecordedBody::new(body, pending)))
                }
                Err(error) => {
                    seen.failed();
                    Err(error)
                }
            }
        })
    }
}
