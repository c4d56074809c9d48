//! The bodies of failures in `/api/v1`.

use axum::http::StatusCode;
use pulsestream_core::FieldError;
use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// Writes the body of a failure.
pub(crate) fn body(failure: &Failure, request_id: &str) -> Value {
    let fields = failure.error().fields();
    if failure.status() == StatusCode::UNPROCESSABLE_ENTITY && !fields.is_empty() {
        let part = failure.part().as_str();
        let detail: Vec<_> = fields.iter().map(|field| entry(part, field)).collect();
        return json!({"detail": detail, "error": "VALIDATION_ERROR", "message": failure.message()});
    }
    let mut details = Map::new();
    for (key, value) in failure.context() {
        details.insert((*key).to_owned(), Value::String(value.clone()));
    }
    if !fields.is_empty() {
        let part = failure.part().as_str();
        details.insert("fields".to_owned(), fields.iter().map(|field| entry(part, field)).collect());
    }
    if let Some(seconds) = failure.retry_after_seconds() {
        details.insert("retry_after".to_owned(), json!(seconds));
    }
    details.insert("request_id".to_owned(), json!(request_id));
    json!({
        "error": failure.code().to_ascii_uppercase(),
        "message": failure.message(),
        "status_code": failure.status().as_u16(),
        "details": details,
    })
}

fn entry(part: &str, field: &FieldError) -> Value {
    let mut place = vec![json!(part)];
    place.extend(field.pointer.split('/').skip(1).map(|segment| {
        let segment = segment.replace("~1", "/").replace("~0", "~");
        segment.parse::<usize>().map_or_else(|_| json!(segment), |index| json!(index))
    }));
    json!({"loc": place, "msg": field.message, "type": field.code})
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulsestream_core::{Error, ErrorKind};

    #[test]
    fn refused_fields_say_where_they_are() {
        let failure = Failure::invalid_body(vec![
            FieldError::new("/events/3/a~1b", "required", "is required"),
            FieldError::new("", "invalid_json", "no JSON"),
        ]);
        assert_eq!(
            body(&failure, "r1"),
            json!({
                "detail": [
                    {"loc": ["body", "events", 3, "a/b"], "msg": "is required", "type": "required"},
                    {"loc": ["body"], "msg": "no JSON", "type": "invalid_json"},
                ],
                "error": "VALIDATION_ERROR",
                "message": "2 fields are refused",
            })
        );
    }

    #[test]
    fn other_failures_name_code_and_status() {
        let error =
            Error::new(ErrorKind::NotFound, "rules.get", "there is no such rule").with_context("rule", 7);
        assert_eq!(
            body(&error.into(), "r1"),
            json!({
                "error": "NOT_FOUND", "message": "there is no such rule", "status_code": 404,
                "details": {"rule": "7", "request_id": "r1"},
            })
        );
    }

    #[test]
    fn the_inside_of_the_server_is_not_shown() {
        let error =
            Error::new(ErrorKind::Internal, "x", "disk /var/secret").with_context("path", "/var/secret");
        assert!(!body(&error.into(), "r1").to_string().contains("secret"));
    }
}
