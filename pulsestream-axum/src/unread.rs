//! Reads to its end what a handler leaves of a body.
//!
//! A server that closes a connection with bytes of a request unread resets it, and then the client has a broken connection in
//! place of its answer. So what a refusal leaves is read and thrown away, within the limits that a body has anyway, before the
//! answer goes out; the client can use the connection for its next request.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::extract::Request;
use axum::http::header;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use pulsestream_core::settings::HttpSettings;

/// The body of a request that was lent, and comes back when whoever has it drops it.
#[derive(Debug)]
pub(crate) struct Unread {
    returned: Arc<Mutex<Option<Returned>>>,
    /// The client sends its body when it is asked to go on, which reading does.
    waits_to_be_asked: bool,
}

#[derive(Debug)]
struct Returned {
    body: Body,
    is_begun: bool,
}

/// Lends the body of a request; `None` when it has none.
pub(crate) fn lend(request: Request) -> (Request, Option<Unread>) {
    if request.body().is_end_stream() {
        return (request, None);
    }
    let returned = Arc::default();
    let waits_to_be_asked = request.headers().contains_key(header::EXPECT);
    let unread = Unread { returned: Arc::clone(&returned), waits_to_be_asked };
    let lent = |body| Body::new(Lent { body: Some(body), is_begun: false, returned });
    (request.map(lent), Some(unread))
}

impl Unread {
    /// Reads what is left, as long as it is no more than a body may have and comes in the time that a body may take.
    pub(crate) async fn read_out(self, limits: &HttpSettings) {
        let returned = self.returned.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Returned { body, is_begun }) = returned else { return };
        let is_too_long = body.size_hint().lower() > limits.max_body_bytes as u64;
        if is_too_long || (self.waits_to_be_asked && !is_begun) {
            return;
        }
        let _ = tokio::time::timeout(limits.body_timeout, discard(body, limits.max_body_bytes)).await;
    }
}

async fn discard(mut body: Body, limit: usize) {
    let mut left = limit;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

struct Lent {
    /// `None` after its end.
    body: Option<Body>,
    is_begun: bool,
    returned: Arc<Mutex<Option<Returned>>>,
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.is_begun = true;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            let returned = Returned { body, is_begun: self.is_begun };
            *self.returned.lock().unwrap_or_else(PoisonError::into_inner) = Some(returned);
        }
    }
}
