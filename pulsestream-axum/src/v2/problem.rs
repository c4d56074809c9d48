//! Problem details (RFC 9457): the bodies of failures in `/api/v2`.

use serde_json::{Map, Value, json};

use crate::failure::{Failure, Part};
use crate::status;

/// The type of every problem body.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// Writes the body of a failure. `code` is stable; `errors` has a pointer for each refused value of the body, or the name of
/// the query parameter.
pub(crate) fn body(failure: &Failure, request_id: &str) -> Value {
    let mut problem = Map::new();
    problem.insert("type".to_owned(), json!("about:blank"));
    problem.insert("title".to_owned(), json!(status::title(failure.status())));
    problem.insert("status".to_owned(), json!(failure.status().as_u16()));
    problem.insert("detail".to_owned(), json!(failure.message()));
    problem.insert("code".to_owned(), json!(failure.code()));
    problem.insert("request_id".to_owned(), json!(request_id));
    if let Some(seconds) = failure.retry_after_seconds() {
        problem.insert("retry_after".to_owned(), json!(seconds));
    }
    let fields = failure.error().fields();
    if !fields.is_empty() {
        let errors = fields.iter().map(|field| match failure.part() {
            Part::Body => json!({"pointer": field.pointer, "code": field.code, "detail": field.message}),
            Part::Query => {
                let name = field.pointer.trim_start_matches('/');
                json!({"parameter": name, "code": field.code, "detail": field.message})
            }
        });
        problem.insert("errors".to_owned(), errors.collect());
    }
    let context = failure.context();
    if !context.is_empty() {
        let facts: Map<_, _> = context.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        problem.insert("context".to_owned(), Value::Object(facts));
    }
    Value::Object(problem)
}
