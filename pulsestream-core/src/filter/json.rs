//! The JSON form of a filter.

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value as Json};

use super::check::{Problem, check_depth, check_in_length, check_operator, check_predicates, check_value};
use super::{CompareOp, Expr, Filter, hint};
use crate::error::{Error, ErrorKind, FieldError, Result};
use crate::event::{FieldPath, Value, nearest_of};
use crate::text::Text;

/// The keys of a comparison.
const KEYS: [&str; 3] = ["field", "op", "value"];

impl Filter {
    /// Reads a filter in its JSON form, or a string in the text form.
    ///
    /// # Errors
    /// `Invalid` with one field error, whose pointer names the wrong value.
    pub fn from_json(json: &Json) -> Result<Self> {
        if let Json::String(text) = json {
            return Self::parse(text);
        }
        let mut reader = Reader { pointer: String::new(), predicates: 0 };
        reader.expr(json, 0).and_then(Self::with_checked_leaves).map_err(|problem| {
            let pointer = reader.pointer;
            let message = problem.message.clone().into_owned();
            let error = Error::new(ErrorKind::Invalid, "filter.from_json", problem.message)
                .with_field(FieldError::new(pointer.as_str(), problem.code, message));
            if pointer.is_empty() { error } else { error.with_context("pointer", pointer) }
        })
    }
}

/// Reads the tree; after an error `pointer` is the place.
struct Reader {
    pointer: String,
    predicates: usize,
}

impl Reader {
    fn expr(&mut self, json: &Json, depth: usize) -> Result<Expr, Problem> {
        match json {
            Json::Bool(true) => Ok(Expr::True),
            Json::Object(object) => self.object(object, depth),
            _ => Err(Problem::new(
                "wrong_type",
                "a filter is true, a text in quotes, or an object with `and`, `or`, `not`, `text` or `field`",
            )),
        }
    }

    fn object(&mut self, object: &Map<String, Json>, depth: usize) -> Result<Expr, Problem> {
        if object.contains_key("field") {
            return self.predicate(object);
        }
        let mut entries = object.iter();
        let (Some((key, json)), None) = (entries.next(), entries.next()) else {
            let message =
                "an object has exactly one of `and`, `or`, `not` and `text`, or `field`, `op` and `value`";
            return Err(Problem::new("wrong_type", message));
        };
        match key.as_str() {
            "and" | "or" => {
                check_depth(depth + 1)?;
                let parts = self.at(key, |reader| reader.parts(json, depth + 1))?;
                Ok(if key == "and" { Expr::And(parts) } else { Expr::Or(parts) })
            }
            "not" => {
                check_depth(depth + 1)?;
                Ok(Expr::Not(Box::new(self.at(key, |reader| reader.expr(json, depth + 1))?)))
            }
            "text" => {
                self.count()?;
                self.at(key, |_| text(json).map(|text| Expr::Text(Text::from(text))))
            }
            _ => Err(unknown_key(key, &["and", "or", "not", "text", "field"])),
        }
    }

    fn parts(&mut self, json: &Json, depth: usize) -> Result<Vec<Expr>, Problem> {
        let Json::Array(items) = json else {
            return Err(Problem::new("wrong_type", "must be an array of filters"));
        };
        let mut parts = Vec::new();
        for (index, item) in items.iter().enumerate() {
            parts.push(self.at(&index.to_string(), |reader| reader.expr(item, depth))?);
        }
        Ok(parts)
    }

    fn predicate(&mut self, object: &Map<String, Json>) -> Result<Expr, Problem> {
        self.count()?;
        if let Some(key) = object.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(unknown_key(key, &KEYS));
        }
        let field = self.at("field", |_| {
            let name = text(object.get("field").unwrap_or(&Json::Null))?;
            name.parse::<FieldPath>().map_err(|_| hint::unknown_field(name))
        })?;
        let required = |key: &str| {
            object.get(key).ok_or_else(|| Problem::new("required", format!("`{key}` is missing")))
        };
        let op = required("op")?;
        let operator = self.at("op", |_| {
            let operator = operator(text(op)?)?;
            if let Operator::Compare(op) = operator {
                check_operator(&field, op)?;
            }
            Ok(operator)
        })?;
        if let Operator::Exists = operator {
            return match object.get("value") {
                None => Ok(Expr::Exists(field)),
                Some(_) => Err(Problem::new("wrong_type", "`exists` takes no `value`")),
            };
        }
        let json = required("value")?;
        self.at("value", |reader| match operator {
            Operator::Compare(op) => {
                let value = scalar(&field, Some(op), json)?;
                Ok(Expr::Compare { field, op, value })
            }
            _ => {
                let values = reader.values(&field, json)?;
                Ok(Expr::In { field, values })
            }
        })
    }

    fn values(&mut self, field: &FieldPath, json: &Json) -> Result<Vec<Value>, Problem> {
        let Json::Array(items) = json else {
            return Err(Problem::new("wrong_type", "`in` takes an array of values"));
        };
        check_in_length(items.len())?;
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            values.push(self.at(&index.to_string(), |_| scalar(field, None, item))?);
        }
        Ok(values)
    }

    fn count(&mut self) -> Result<(), Problem> {
        self.predicates += 1;
        check_predicates(self.predicates)
    }

    /// Reads a member; the pointer stays there when that fails.
    fn at<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> Result<T, Problem>) -> Result<T, Problem> {
        let length = self.pointer.len();
        self.pointer.push('/');
        self.pointer.push_str(key);
        let result = read(self);
        if result.is_ok() {
            self.pointer.truncate(length);
        }
        result
    }
}

enum Operator {
    Compare(CompareOp),
    In,
    Exists,
}

fn operator(name: &str) -> Result<Operator, Problem> {
    match name {
        "in" => return Ok(Operator::In),
        "exists" => return Ok(Operator::Exists),
        _ => {}
    }
    if let Some(op) = CompareOp::ALL.into_iter().find(|op| op.as_str() == name) {
        return Ok(Operator::Compare(op));
    }
    Err(hint::unknown_operator(name))
}

fn text(json: &Json) -> Result<&str, Problem> {
    json.as_str().ok_or_else(|| Problem::new("wrong_type", "must be a string"))
}

/// Reads a literal that the field and the operator take; `op` is `None` inside a list.
fn scalar(field: &FieldPath, op: Option<CompareOp>, json: &Json) -> Result<Value, Problem> {
    let value = match json {
        Json::Null => Value::Missing,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => Value::Number(number.as_f64().unwrap_or(f64::INFINITY)),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(_) | Json::Object(_) => {
            return Err(Problem::new("wrong_type", "must be a string, a number or a boolean"));
        }
    };
    check_value(field, op, &value)?;
    Ok(value)
}

fn unknown_key(key: &str, valid: &[&str]) -> Problem {
    let near = nearest_of(key, valid.iter().copied());
    let hint = near.map(|near| format!("; did you mean `{near}`")).unwrap_or_default();
    let key = super::lex::shortened(key);
    Problem::new("unknown_field", format!("unknown key `{key}`{hint}; valid keys are {}", valid.join(", ")))
}

impl Serialize for Expr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fn one<S: Serializer, T: Serialize + ?Sized>(
            serializer: S,
            key: &str,
            value: &T,
        ) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(1))?;
            map.serialize_entry(key, value)?;
            map.end()
        }
        fn predicate<S: Serializer, T: Serialize + ?Sized>(
            serializer: S,
            field: &FieldPath,
            op: &str,
            value: Option<&T>,
        ) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(if value.is_some() { 3 } else { 2 }))?;
            map.serialize_entry("field", field)?;
            map.serialize_entry("op", op)?;
            if let Some(value) = value {
                map.serialize_entry("value", value)?;
            }
            map.end()
        }
        match self {
            Self::True => serializer.serialize_bool(true),
            Self::And(parts) => one(serializer, "and", parts),
            Self::Or(parts) => one(serializer, "or", parts),
            Self::Not(inner) => one(serializer, "not", inner),
            Self::Text(text) => one(serializer, "text", text),
            Self::Compare { field, op, value } => predicate(serializer, field, op.as_str(), Some(value)),
            Self::In { field, values } => predicate(serializer, field, "in", Some(values)),
            Self::Exists(field) => predicate::<S, ()>(serializer, field, "exists", None),
        }
    }
}

impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.expr().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Filter {
    /// Reads the JSON form, or a string in the text form.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Json::deserialize(deserializer)?;
        Self::from_json(&json).map_err(|error| {
            let place = error.fields().first().map(|field| field.pointer.as_str()).unwrap_or_default();
            match place {
                "" => serde::de::Error::custom(error.message()),
                _ => serde::de::Error::custom(format_args!("{} at {place}", error.message())),
            }
        })
    }
}
