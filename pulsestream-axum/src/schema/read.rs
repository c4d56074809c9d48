//! Reads requests as types.

use pulsestream_core::FieldError;
use pulsestream_core::event::JsonObject;
use pulsestream_core::time::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{Shape, Shapes};

type Fields = Vec<FieldError>;

impl Shapes {
    /// Reads a JSON body: no duplicate keys, bounded depth, no NUL, and everything that is wrong with it at once.
    pub(crate) fn read_json<T: ToSchema + DeserializeOwned + 'static>(
        &self,
        body: &[u8],
    ) -> Result<T, Fields> {
        let text = std::str::from_utf8(body).map_err(|error| {
            let message = format!("the text is not UTF-8 from byte {} on", error.valid_up_to());
            vec![FieldError::new("", "invalid_utf8", message)]
        })?;
        let object = JsonObject::parse(text).map_err(|error| error.fields().to_vec())?;
        self.read_value(object.to_value())
    }

    /// Reads a query: values take the type that the shape has for them.
    pub(crate) fn read_query<T: ToSchema + DeserializeOwned + 'static>(
        &self,
        query: &str,
    ) -> Result<T, Fields> {
        let shape = self.of::<T>();
        let Shape::Object(object) = shape.as_ref() else { return self.read_value(Value::Object(Map::new())) };
        let mut members = Map::new();
        let mut refusals = Fields::new();
        for (name, text) in form_pairs(query) {
            let property = object.properties.iter().find(|property| property.name == name);
            // An empty parameter, as a form sends for a field that was left out, is an absent one.
            if text.is_empty() && property.is_some_and(|property| !property.is_required) {
                continue;
            }
            let value =
                property.map_or_else(|| Value::String(text.clone()), |found| typed(&found.shape, &text));
            match members.get_mut(&name) {
                Some(Value::Array(values)) => values.extend(value.as_array().cloned().unwrap_or_default()),
                Some(_) => {
                    refusals.push(FieldError::new(format!("/{name}"), "duplicate", "must be given once"))
                }
                None => drop(members.insert(name, value)),
            }
        }
        refusals.extend(shape.check(&Value::Object(members.clone())));
        if refusals.is_empty() { deserialize(Value::Object(members)) } else { Err(refusals) }
    }

    fn read_value<T: ToSchema + DeserializeOwned + 'static>(&self, mut value: Value) -> Result<T, Fields> {
        let shape = self.of::<T>();
        let refusals = shape.check(&value);
        if !refusals.is_empty() {
            return Err(refusals);
        }
        shape.settle(&mut value);
        deserialize(value)
    }
}

fn deserialize<T: DeserializeOwned>(value: Value) -> Result<T, Fields> {
    serde_json::from_value(value).map_err(|error| vec![FieldError::new("", "invalid", error.to_string())])
}

/// Reads the text of a query parameter as the shape wants it; what cannot be read stays text, for the check to refuse.
fn typed(shape: &Shape, text: &str) -> Value {
    let parsed = match shape {
        Shape::Nullable(shape) => return typed(shape, text),
        Shape::Boolean => match text {
            "true" | "True" | "1" => Some(Value::Bool(true)),
            "false" | "False" | "0" => Some(Value::Bool(false)),
            _ => None,
        },
        Shape::Integer { .. } => text.parse::<i64>().ok().map(Value::from),
        Shape::Number { .. } => text
            .parse::<f64>()
            .ok()
            .and_then(|number| serde_json::Number::from_f64(number).map(Value::Number)),
        // A client that does not escape the `+` of an offset sends a space, which no time ends with otherwise.
        Shape::Text(shape) if shape.is_time => text.rsplit_once(' ').and_then(|(time, offset)| {
            let repaired = format!("{time}+{offset}");
            let helps = text.parse::<Timestamp>().is_err() && repaired.parse::<Timestamp>().is_ok();
            helps.then_some(Value::String(repaired))
        }),
        Shape::Array { items, .. } => Some(text.split(',').map(|item| typed(items, item)).collect()),
        _ => None,
    };
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Splits `application/x-www-form-urlencoded` text.
fn form_pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = after;
                }
                _ => bytes.push(b'%'),
            },
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize, ToSchema)]
    struct Search {
        #[schema(minimum = 1, maximum = 1000, default = 100)]
        #[serde(default = "hundred")]
        limit: u32,
        active: Option<bool>,
        text: Option<String>,
        #[serde(default)]
        tags: Vec<String>,
    }

    const fn hundred() -> u32 {
        100
    }

    fn read(query: &str) -> Result<Search, String> {
        let refused = |it: &FieldError| format!("{} {}", it.pointer, it.code);
        let read = Shapes::default().read_query(query);
        read.map_err(|fields| fields.iter().map(refused).collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn queries() {
        let empty = Search { limit: 100, active: None, text: None, tags: Vec::new() };
        assert_eq!(read(""), Ok(empty));
        let full = Search {
            limit: 5,
            active: Some(true),
            text: Some("a b&c\u{e9}".to_owned()),
            tags: vec!["x".to_owned(), "y".to_owned(), "z".to_owned()],
        };
        assert_eq!(read("limit=5&active=true&text=a+b%26c%C3%A9&tags=x,y&tags=z&other=1"), Ok(full));
        assert_eq!(read("text=%zz%2").unwrap().text.as_deref(), Some("%zz%2"));
        assert_eq!(read("limit=&text="), read(""));
        assert_eq!(read("limit=0&active=maybe").unwrap_err(), "/active wrong_type, /limit out_of_range");
        assert_eq!(read("limit=five").unwrap_err(), "/limit wrong_type");
        assert_eq!(read("limit=5&limit=6").unwrap_err(), "/limit duplicate");
    }

    #[test]
    fn bodies() {
        let read = |body: &[u8]| {
            let read = Shapes::default().read_json::<Search>(body);
            read.map_err(|fields| fields.iter().map(|it| it.code.to_string()).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(read(br#"{"limit": 7}"#).unwrap().limit, 7);
        assert_eq!(read(br#"{"limit": 7.0}"#).unwrap().limit, 7);
        assert_eq!(read(br#"{"limit": 7e1}"#).unwrap().limit, 70);
        assert_eq!(read(br#"{"limit": 7.5}"#).unwrap_err(), "wrong_type");
        assert_eq!(read(br#"{"limit": 7e4}"#).unwrap_err(), "out_of_range");
        assert_eq!(read(br#"{"limit": 7, "limit": 8}"#).unwrap_err(), "duplicate_key");
        assert_eq!(read(b"[]").unwrap_err(), "invalid_json");
        assert_eq!(read(b"\xff").unwrap_err(), "invalid_utf8");
        assert!(read(b"").is_err());
        assert_eq!(read("[".repeat(100_000).as_bytes()).unwrap_err(), "invalid_json");
    }
}
