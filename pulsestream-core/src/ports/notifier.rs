//! The notifier port: deliver one notification and say what became of it.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::alerting::{Channel, Delivery};
use crate::error::Result;
use crate::id::TenantId;
use crate::text::Text;
use crate::time::Timestamp;

/// One attempt to deliver: what, to where, for the how-manieth time.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    /// Whose it is.
    pub tenant: TenantId,
    /// What is sent; its id identifies the notification to the receiver in every attempt.
    pub delivery: Delivery,
    /// Where it goes, with its secrets.
    pub channel: Channel,
    /// Number of this attempt, from 1.
    pub attempt: u32,
    /// When this attempt is made.
    pub at: Timestamp,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum DeliveryOutcome {
    /// The receiver has it.
    Delivered,
    /// It failed in a way that may pass.
    RetryAfter {
        /// How long the receiver asked to wait; `None`: as the schedule says.
        after: Option<Duration>,
        /// Why, without secrets.
        error: Text,
    },
    /// It failed and will always fail; the next notification may not.
    Permanent {
        /// Why, without secrets.
        error: Text,
    },
    /// The receiver is gone: the channel must be disabled.
    Disable {
        /// Why, without secrets.
        error: Text,
    },
}

impl DeliveryOutcome {
    /// Returns why it failed; `None` when it did not.
    pub fn error(&self) -> Option<&Text> {
        match self {
            Self::Delivered => None,
            Self::RetryAfter { error, .. } | Self::Permanent { error } | Self::Disable { error } => {
                Some(error)
            }
        }
    }
}

/// The report on one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryReport {
    /// What became of it.
    #[serde(flatten)]
    pub outcome: DeliveryOutcome,
    /// What was asked, in one line and without secrets, for example `POST https://example.com/hook`.
    pub request: Text,
    /// The head of the answer, at most 1 KiB and without secrets, for example `200 OK`.
    pub response: Option<Text>,
    /// Status code of the answer, where the protocol has one.
    pub status_code: Option<u16>,
    /// How long it took.
    #[serde(with = "crate::time::duration_text")]
    pub latency: Duration,
}

/// Delivers notifications to one kind of channel.
#[async_trait]
pub trait Notifier: fmt::Debug + Send + Sync + 'static {
    /// Returns the kind of channel it delivers to, see [`ChannelConfig::kind`](crate::alerting::ChannelConfig::kind).
    fn kind(&self) -> &str;

    /// Checks the settings of a channel of this kind, without sending anything.
    ///
    /// # Errors
    /// `Invalid` with a field error for each thing that is wrong.
    fn validate(&self, channel: &Channel) -> Result<()>;

    /// Makes one attempt. A failure of the receiver or of the way to it is an outcome, never an error or a panic.
    ///
    /// # Contract
    /// - Returns within the notifier's own deadline, which is less than a minute, whatever the receiver does
    ///   (`a_receiver_that_never_comes_to_the_point_is_left_at_the_deadline`).
    /// - Sends the delivery's id, so that a receiver recognises a repeated attempt (`the_request_is_a_standard_webhook`).
    /// - No secret of the channel appears in the report (`no_secret_is_in_reports_logs_or_debug_forms`).
    async fn deliver(&self, notification: &Notification) -> DeliveryReport;
}
