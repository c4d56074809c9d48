//! Checks a value against a shape, and tells everything that is wrong with it.

use pulsestream_core::FieldError;
use pulsestream_core::event::nearest_of;
use pulsestream_core::time::Timestamp;
use serde_json::Value;

use super::{ObjectShape, Others, Shape, TextShape};

/// Refusals of one request that are listed.
const MAX_REFUSALS: usize = 100;

impl Shape {
    /// Returns everything that is wrong with a value, up to a hundred things.
    pub(crate) fn check(&self, value: &Value) -> Vec<FieldError> {
        let mut refusals = Vec::new();
        self.visit(value, &mut String::new(), &mut refusals);
        refusals.truncate(MAX_REFUSALS);
        refusals
    }

    fn visit(&self, value: &Value, pointer: &mut String, refusals: &mut Vec<FieldError>) {
        if refusals.len() >= MAX_REFUSALS {
            return;
        }
        let mut refuse = |code: &'static str, message: String| {
            refusals.push(FieldError::new(pointer.clone(), code, message));
        };
        match (self, value) {
            (Self::Any | Self::Boolean, Value::Bool(_)) | (Self::Any | Self::Nullable(_), Value::Null) => {}
            (Self::Any, _) => {}
            (Self::Nullable(shape), _) => shape.visit(value, pointer, refusals),
            (Self::Integer { min, max }, Value::Number(number)) => match whole(number) {
                Some(number)
                    if min.is_none_or(|min| number >= min) && max.is_none_or(|max| number <= max) => {}
                Some(_) => refuse("out_of_range", range(min.as_ref(), max.as_ref())),
                None if number.is_u64() => refuse("out_of_range", range(min.as_ref(), max.as_ref())),
                None => refuse("wrong_type", "must be a whole number".to_owned()),
            },
            (Self::Number { min, max }, Value::Number(number)) => {
                let number = number.as_f64().unwrap_or(f64::INFINITY);
                let fits = number.is_finite()
                    && min.is_none_or(|min| number >= min)
                    && max.is_none_or(|max| number <= max);
                if !fits {
                    refuse("out_of_range", range(min.as_ref(), max.as_ref()));
                }
            }
            (Self::Text(shape), Value::String(text)) => {
                if let Some((code, message)) = shape.fault(text) {
                    refuse(code, message);
                }
            }
            (Self::Array { items, min, max }, Value::Array(values)) => {
                if !(*min..=*max).contains(&values.len()) {
                    refuse("length", format!("must have {min} to {max} elements"));
                    return;
                }
                for (index, value) in values.iter().enumerate() {
                    at(pointer, &index.to_string(), |pointer| items.visit(value, pointer, refusals));
                }
            }
            (Self::Object(shape), Value::Object(members)) => shape.visit(members, pointer, refusals),
            (Self::OneOf(shapes), _) => {
                let mut fewest: Option<Vec<FieldError>> = None;
                for shape in shapes {
                    let mut own = Vec::new();
                    shape.visit(value, pointer, &mut own);
                    if own.is_empty() {
                        return;
                    }
                    // The alternative that got furthest into the value is the one that was meant.
                    let depth = |refusals: &[FieldError]| refusals.iter().map(|it| it.pointer.len()).min();
                    if fewest
                        .as_ref()
                        .is_none_or(|fewest| (depth(&own), fewest.len()) > (depth(fewest), own.len()))
                    {
                        fewest = Some(own);
                    }
                }
                refusals.extend(fewest.unwrap_or_default());
            }
            _ => refuse("wrong_type", format!("must be {}", self.noun())),
        }
    }

    /// Writes whole numbers without a fraction where they must be whole: `5.0` is `5` in JSON Schema, and not to everyone that
    /// reads it later.
    pub(crate) fn settle(&self, value: &mut Value) {
        match (self, value) {
            (Self::Nullable(shape), value) => shape.settle(value),
            (Self::Integer { .. }, value @ Value::Number(_)) => {
                if let Value::Number(number) = value
                    && let Some(number) = whole(number)
                {
                    *value = number.into();
                }
            }
            (Self::Array { items, .. }, Value::Array(values)) => {
                values.iter_mut().for_each(|value| items.settle(value));
            }
            (Self::Object(shape), Value::Object(members)) => {
                for property in &shape.properties {
                    if let Some(value) = members.get_mut(&property.name) {
                        property.shape.settle(value);
                    }
                }
            }
            (Self::OneOf(shapes), value) => {
                if let Some(shape) = shapes.iter().find(|shape| shape.check(value).is_empty()) {
                    shape.settle(value);
                }
            }
            _ => {}
        }
    }

    fn noun(&self) -> &'static str {
        match self {
            Self::Any => "anything",
            Self::Nullable(shape) => shape.noun(),
            Self::Boolean => "true or false",
            Self::Integer { .. } => "a whole number",
            Self::Number { .. } => "a number",
            Self::Text(_) => "a string",
            Self::Array { .. } => "an array",
            Self::Object(_) => "an object",
            Self::OneOf(_) => "another value",
        }
    }
}

impl TextShape {
    fn fault(&self, text: &str) -> Option<(&'static str, String)> {
        if !self.names.is_empty() && !self.names.iter().any(|name| name == text) {
            let near = nearest_of(text, self.names.iter().map(String::as_str));
            let hint = near.map(|near| format!("; did you mean `{near}`")).unwrap_or_default();
            return Some(("unknown_value", format!("must be one of {}{hint}", self.names.join(", "))));
        }
        if self.is_time && text.parse::<Timestamp>().is_err() {
            return Some(("invalid_timestamp", "must be a time such as 2026-01-31T12:00:00Z".to_owned()));
        }
        let chars = text.chars().count();
        if chars < self.min || self.max.is_some_and(|max| chars > max) {
            let message = match self.max {
                Some(max) => format!("must have {} to {max} characters", self.min),
                None => format!("must have at least {} characters", self.min),
            };
            return Some(("length", message));
        }
        text.contains('\0').then(|| ("control_character", "must not hold a NUL character".to_owned()))
    }
}

impl ObjectShape {
    fn visit(
        &self,
        members: &serde_json::Map<String, Value>,
        pointer: &mut String,
        refusals: &mut Vec<FieldError>,
    ) {
        for property in &self.properties {
            at(pointer, &property.name, |pointer| match members.get(&property.name) {
                Some(value) => property.shape.visit(value, pointer, refusals),
                None if property.is_required => {
                    refusals.push(FieldError::new(pointer.clone(), "required", "is required"));
                }
                None => {}
            });
        }
        if matches!(self.others, Others::Ignored) {
            return;
        }
        let is_known = |name: &str| self.properties.iter().any(|property| property.name == name);
        for (name, value) in members.iter().filter(|(name, _)| !is_known(name)) {
            at(pointer, name, |pointer| match &self.others {
                Others::Are(shape) => shape.visit(value, pointer, refusals),
                _ => {
                    let names = || self.properties.iter().map(|property| property.name.as_str());
                    let message = match nearest_of(name, names()) {
                        Some(near) => format!("unknown field; did you mean `{near}`"),
                        None => format!(
                            "unknown field; valid names are {}",
                            names().collect::<Vec<_>>().join(", ")
                        ),
                    };
                    refusals.push(FieldError::new(pointer.clone(), "unknown_field", message));
                }
            });
        }
    }
}

fn at(pointer: &mut String, segment: &str, visit: impl FnOnce(&mut String)) {
    let length = pointer.len();
    pointer.push('/');
    pointer.push_str(&segment.replace('~', "~0").replace('/', "~1"));
    visit(pointer);
    pointer.truncate(length);
}

/// Reads a whole number, however it is written.
#[allow(
    clippy::cast_possible_truncation,
    reason = "it is whole and in the range where every whole number is exact"
)]
fn whole(number: &serde_json::Number) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let is_whole = |number: &f64| number.fract() == 0.0 && number.abs() <= EXACT;
    number.as_i64().or_else(|| number.as_f64().filter(is_whole).map(|number| number as i64))
}

fn range<N: std::fmt::Display>(min: Option<&N>, max: Option<&N>) -> String {
    match (min, max) {
        (Some(min), Some(max)) => format!("must be between {min} and {max}"),
        (Some(min), None) => format!("must be at least {min}"),
        (None, Some(max)) => format!("must be at most {max}"),
        (None, None) => "must be a number that fits 64 bits".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;
    use utoipa::ToSchema;

    use super::super::Shapes;

    #[derive(Debug, Deserialize, ToSchema)]
    #[allow(dead_code, reason = "read by its schema only")]
    struct Loose {
        #[schema(min_length = 2, max_length = 5)]
        name: String,
        #[schema(minimum = 1, maximum = 1000)]
        #[serde(default)]
        limit: u32,
        #[schema(minimum = 0)]
        ratio: Option<f64>,
        kind: Option<Kind>,
        #[schema(value_type = Option<String>, format = DateTime)]
        since: Option<String>,
        #[schema(max_items = 2)]
        tags: Option<Vec<String>>,
        inner: Option<Strict>,
    }

    #[derive(Debug, Deserialize, ToSchema)]
    #[serde(rename_all = "snake_case")]
    #[allow(dead_code, reason = "read by its schema only")]
    enum Kind {
        Fast,
        Slow,
    }

    #[derive(Debug, Deserialize, ToSchema)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "read by its schema only")]
    struct Strict {
        enabled: bool,
    }

    fn refusals(value: serde_json::Value) -> Vec<String> {
        let shape = Shapes::default().of::<Loose>();
        shape.check(&value).into_iter().map(|it| format!("{} {}", it.pointer, it.code)).collect()
    }

    #[test]
    fn what_the_schema_allows_passes() {
        let nothing: [&str; 0] = [];
        assert_eq!(refusals(json!({"name": "ab"})), nothing);
        let all = json!({
            "name": "abcde", "limit": 1000, "ratio": 0.5, "kind": "slow", "since": "2026-01-31T12:00:00Z",
            "tags": ["a"], "inner": {"enabled": true}, "unknown": 1
        });
        assert_eq!(refusals(all), nothing);
        let nulls =
            json!({"name": "ab", "ratio": null, "kind": null, "since": null, "tags": null, "inner": null});
        assert_eq!(refusals(nulls), nothing);
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let value = json!({
            "name": "a", "limit": 0, "ratio": -1, "kind": "slo", "since": "soon", "tags": ["a", 2, "c"],
            "inner": {"enabled": 1, "enable": true}
        });
        assert_eq!(
            refusals(value),
            [
                "/inner/enabled wrong_type",
                "/inner/enable unknown_field",
                "/kind unknown_value",
                "/limit out_of_range",
                "/name length",
                "/ratio out_of_range",
                "/since invalid_timestamp",
                "/tags length",
            ]
        );
        assert_eq!(refusals(json!({})), ["/name required"]);
        assert_eq!(refusals(json!([])), [" wrong_type"]);
        assert_eq!(refusals(json!({"name": "ab\u{0}"})), ["/name control_character"]);
        assert_eq!(refusals(json!({"name": "ab", "limit": 1.5})), ["/limit wrong_type"]);
        assert_eq!(refusals(json!({"name": "ab", "limit": u64::MAX})), ["/limit out_of_range"]);
    }
}
