//! A filter in words.

use super::display::Literal;
use super::{CompareOp, Expr};
use crate::event::{FieldPath, Value};

/// Describes the events that match, for example `events where the service is 'shop'`.
pub(super) fn explain(expr: &Expr) -> String {
    match expr {
        Expr::True => "every event".into(),
        Expr::Not(inner) if **inner == Expr::True => "no event".into(),
        _ => format!("events where {}", phrase(expr, true)),
    }
}

/// A clause that holds (`positive`) or does not.
fn phrase(expr: &Expr, positive: bool) -> String {
    let nothing = if positive { "" } else { "not " };
    match expr {
        Expr::True if positive => "anything holds".into(),
        Expr::True => "nothing holds".into(),
        Expr::And(parts) if positive => joined(parts, ", and "),
        Expr::Or(parts) if positive => joined(parts, ", or "),
        Expr::And(parts) => format!("not all of this holds: ({})", joined(parts, ", and ")),
        Expr::Or(parts) => format!("none of this holds: ({})", joined(parts, ", or ")),
        Expr::Not(inner) => phrase(inner, !positive),
        Expr::Compare { field, op: CompareOp::Ne, value } => {
            comparison(field, CompareOp::Eq, value, !positive)
        }
        Expr::Compare { field, op, value } => comparison(field, *op, value, positive),
        Expr::In { field, values } if values.is_empty() => {
            format!("{} is {nothing}one of no values", name(field))
        }
        Expr::In { field, values } => {
            let values: Vec<_> = values.iter().map(|value| Literal(value).to_string()).collect();
            format!("{} is {nothing}one of {}", name(field), values.join(", "))
        }
        Expr::Exists(field) if positive => format!("{} is present", name(field)),
        Expr::Exists(field) => format!("{} is missing", name(field)),
        Expr::Text(text) => {
            let verb = if positive {
                "the title or the message mentions"
            } else {
                "neither the title nor the message mentions"
            };
            format!("{verb} {}", Literal(&Value::Text(text.clone())))
        }
    }
}

fn joined(parts: &[Expr], connective: &str) -> String {
    let phrases: Vec<_> = parts
        .iter()
        .map(|part| match part {
            Expr::And(_) | Expr::Or(_) => format!("({})", phrase(part, true)),
            _ => phrase(part, true),
        })
        .collect();
    phrases.join(connective)
}

fn comparison(field: &FieldPath, op: CompareOp, value: &Value, positive: bool) -> String {
    let severity = *field == FieldPath::Severity;
    let text = matches!(value, Value::Text(_)) && !severity;
    let verb = match (op, positive) {
        (CompareOp::Eq, true) => "is",
        (CompareOp::Eq, false) | (CompareOp::Ne, true) => "is not",
        (CompareOp::Ne, false) => "is",
        (CompareOp::Lt, true) if text => "sorts before",
        (CompareOp::Le, true) if text => "is or sorts before",
        (CompareOp::Gt, true) if text => "sorts after",
        (CompareOp::Ge, true) if text => "is or sorts after",
        (CompareOp::Lt, false) if text => "does not sort before",
        (CompareOp::Le, false) if text => "neither is nor sorts before",
        (CompareOp::Gt, false) if text => "does not sort after",
        (CompareOp::Ge, false) if text => "neither is nor sorts after",
        (CompareOp::Lt, true) => "is less than",
        (CompareOp::Le, true) => "is at most",
        (CompareOp::Gt, true) => "is more than",
        (CompareOp::Ge, true) => "is at least",
        (CompareOp::Lt, false) => "is not less than",
        (CompareOp::Le, false) => "is not at most",
        (CompareOp::Gt, false) => "is not more than",
        (CompareOp::Ge, false) => "is not at least",
        (CompareOp::Contains, true) => "contains",
        (CompareOp::Contains, false) => "does not contain",
        (CompareOp::StartsWith, true) => "starts with",
        (CompareOp::StartsWith, false) => "does not start with",
        (CompareOp::EndsWith, true) => "ends with",
        (CompareOp::EndsWith, false) => "does not end with",
        (CompareOp::Matches, true) => "matches the regular expression",
        (CompareOp::Matches, false) => "does not match the regular expression",
    };
    format!("{} {verb} {}", name(field), Literal(value))
}

/// What people call the field.
fn name(field: &FieldPath) -> String {
    let fixed = match field {
        FieldPath::Id => "the event id",
        FieldPath::EventType => "the event type",
        FieldPath::SourceService => "the service",
        FieldPath::SourceEndpoint => "the endpoint",
        FieldPath::SourceMethod => "the method",
        FieldPath::SourceVersion => "the version",
        FieldPath::SourceEnvironment => "the environment",
        FieldPath::UserId => "the user id",
        FieldPath::SessionId => "the session id",
        FieldPath::RequestId => "the request id",
        FieldPath::IpAddress => "the IP address",
        FieldPath::UserAgent => "the user agent",
        FieldPath::ResponseTimeMs => "the response time in milliseconds",
        FieldPath::StatusCode => "the status code",
        FieldPath::RequestSizeBytes => "the request size in bytes",
        FieldPath::ResponseSizeBytes => "the response size in bytes",
        FieldPath::CacheHit => "the cache hit",
        FieldPath::ErrorCode => "the error code",
        FieldPath::ErrorMessage => "the error message",
        FieldPath::ErrorType => "the error type",
        FieldPath::ErrorStackTrace => "the stack trace",
        FieldPath::Tag(_) => return format!("the tag {}", own_part(field, "context.tags.")),
        FieldPath::Payload(_) => return format!("{} in the payload", own_part(field, "payload.")),
        FieldPath::Metadata(_) => return format!("{} in the metadata", own_part(field, "metadata.")),
        other => return format!("the {other}"),
    };
    fixed.into()
}

/// The application's own part of a path, as it is written.
fn own_part(field: &FieldPath, prefix: &str) -> String {
    let path = field.to_string();
    path.strip_prefix(prefix).map(ToOwned::to_owned).unwrap_or(path)
}
