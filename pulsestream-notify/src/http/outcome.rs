//! What an answer, or its absence, means.

use pulsestream_core::ports::notifier::{DeliveryOutcome, DeliveryReport};
use pulsestream_core::text::Text;
use pulsestream_core::time::Timestamp;
use pulsestream_core::{Error, ErrorKind, Retry};
use reqwest::StatusCode;

use super::retry_after;
use super::sender::{Exchange, Received};
use crate::report::{MAX_RESPONSE_BYTES, Mask, cut, one_line};

/// Turns an exchange into a report as Standard Webhooks says: 2xx is success, 410 disables, everything else is tried again, after
/// `Retry-After` when the receiver names it.
pub(crate) fn classify(exchange: Exchange, request: String, mask: &Mask, now: Timestamp) -> DeliveryReport {
    let latency = exchange.latency;
    let mut report = DeliveryReport {
        outcome: DeliveryOutcome::Delivered,
        request: request.into(),
        response: None,
        status_code: None,
        latency,
    };
    match exchange.result {
        Ok(received) => {
            report.outcome = outcome_of(&received, now);
            report.response = Some(head_of(&received, mask).into());
            report.status_code = Some(received.status.as_u16());
        }
        Err(error) => report.outcome = outcome_of_error(&error, mask),
    }
    report
}

/// Reports a notification that cannot be sent as it is.
pub(crate) fn refuse_forever(request: &str, error: &Error) -> DeliveryReport {
    DeliveryReport {
        outcome: DeliveryOutcome::Permanent {
            error: cut(&one_line(&error.to_string()), MAX_RESPONSE_BYTES).into(),
        },
        request: request.into(),
        response: None,
        status_code: None,
        latency: std::time::Duration::ZERO,
    }
}

fn outcome_of(received: &Received, now: Timestamp) -> DeliveryOutcome {
    let status = received.status;
    if status.is_success() {
        return DeliveryOutcome::Delivered;
    }
    let what = format!("the receiver answered {}", line_of(status));
    if status == StatusCode::GONE {
        return DeliveryOutcome::Disable { error: what.into() };
    }
    let error: Text = if status.is_redirection() {
        format!("{what}; redirects are not followed, enter the final URL").into()
    } else {
        what.into()
    };
    let after = received.retry_after.as_deref().and_then(|text| retry_after::parse(text, now));
    DeliveryOutcome::RetryAfter { after, error }
}

fn outcome_of_error(error: &Error, mask: &Mask) -> DeliveryOutcome {
    let text = mask.apply(error.message(), MAX_RESPONSE_BYTES).into();
    let is_final = matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Forbidden)
        && matches!(error.retry(), Retry::Never);
    if is_final {
        DeliveryOutcome::Permanent { error: text }
    } else {
        DeliveryOutcome::RetryAfter { after: error.retry_after(), error: text }
    }
}

fn line_of(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// Returns the status, and of a failure the type and the start of the text.
fn head_of(received: &Received, mask: &Mask) -> String {
    let mut head = line_of(received.status);
    if !received.status.is_success() {
        for part in [received.content_type.as_deref(), Some(&*String::from_utf8_lossy(&received.body))] {
            if let Some(part) = part.map(str::trim).filter(|part| !part.is_empty()) {
                head.push_str("; ");
                head.push_str(part);
            }
        }
    }
    mask.apply(&head, MAX_RESPONSE_BYTES)
}
