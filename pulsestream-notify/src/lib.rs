//! E-mail, Slack and webhook notifiers of PulseStream, behind an outbound guard.
//!
//! Each notifier implements [`Notifier`](pulsestream_core::ports::notifier::Notifier): it makes one attempt and says what became of
//! it. When to try again, and when to give up, is decided by the dispatcher, which owns the schedule.
#![forbid(unsafe_code)]

pub mod egress;

mod email;
mod http;
mod log;
mod report;
mod slack;
mod text;
mod webhook;

pub use email::{EmailConfig, EmailCredentials, EmailNotifier, EmailSecurity};
pub use http::{DocumentReader, HttpConfig, MAX_DEADLINE};
pub use log::LogNotifier;
pub use slack::SlackNotifier;
pub use webhook::{
    MAX_SECRET_BYTES, MIN_SECRET_BYTES, SignatureHeaders, TOLERANCE, WebhookNotifier, WebhookSecret, verify,
};
