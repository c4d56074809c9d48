//! A response body that tells its length when it ends.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};

use super::event::Pending;

/// The body of a recorded response: passes everything on, and records the request when it ends or is dropped.
#[derive(Debug)]
pub struct RecordedBody<B> {
    inner: Pin<Box<B>>,
    bytes: u64,
    pending: Option<Pending>,
}

impl<B> RecordedBody<B> {
    pub(super) fn new(inner: B, pending: Pending) -> Self {
        Self { inner: Box::pin(inner), bytes: 0, pending: Some(pending) }
    }

    fn finish(&mut self) {
        if let Some(pending) = self.pending.take() {
            pending.finish(self.bytes);
        }
    }
}

impl<B: Body> Body for RecordedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = self.inner.as_mut().poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, bytes::Buf::remaining);
                self.bytes = self.bytes.saturating_add(length as u64);
            }
            Poll::Ready(Some(Err(_)) | None) => self.finish(),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> Drop for RecordedBody<B> {
    /// A server drops a body that has ended by its own account without polling it to the end, and one whose client went away.
    fn drop(&mut self) {
        self.finish();
    }
}
