//! E-mail, Slack and webhook notifiers of PulseStream, behind an outbound guard.
#![forbid(unsafe_code)]

pub mod egress;
