//! Asks a notifier in a way that its panic is a failed attempt.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;
use std::time::Duration;

use crate::ports::notifier::{DeliveryOutcome, DeliveryReport, Notification, Notifier};
use crate::text::Text;

/// Makes one attempt; a notifier that panics has failed in a way that may pass.
pub(super) async fn deliver(notifier: &dyn Notifier, notification: &Notification) -> DeliveryReport {
    let mut attempt = Box::pin(async move { notifier.deliver(notification).await });
    let finished = poll_fn(move |context| {
        // The future is not polled again after a panic, so nobody sees what it left half done.
        match catch_unwind(AssertUnwindSafe(|| attempt.as_mut().poll(context))) {
            Ok(poll) => poll.map(Some),
            Err(_) => Poll::Ready(None),
        }
    })
    .await;
    finished.unwrap_or_else(|| {
        tracing::error!(kind = notifier.kind(), delivery = %notification.delivery.id, "a notifier panicked");
        failure("the notifier failed unexpectedly; the log of the server says why")
    })
}

/// Returns the report on an attempt that reached nobody, to be tried again.
pub(super) fn failure(error: impl Into<Text>) -> DeliveryReport {
    DeliveryReport {
        outcome: DeliveryOutcome::RetryAfter { after: None, error: error.into() },
        request: Text::default(),
        response: None,
        status_code: None,
        latency: Duration::ZERO,
    }
}
