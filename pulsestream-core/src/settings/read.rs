//! Reads settings from a tree, with every error at once.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Error, FieldError, Result};
use crate::event::nearest_of;

/// Reads the sections and settings that `given` has over those of `defaults`, whose JSON form names all that there are.
///
/// # Errors
/// `Invalid` with a field error for every setting that is unknown or of another type.
pub fn read_over<T: Serialize + DeserializeOwned>(defaults: &T, given: &Value) -> Result<T> {
    let internal =
        |error: serde_json::Error| Error::invalid("settings.read", "", "internal", error.to_string());
    let Value::Object(given) = given else {
        return Err(Error::invalid("settings.read", "", "wrong_type", "settings must be an object"));
    };
    let mut tree = serde_json::to_value(defaults).map_err(internal)?;
    let mut errors = Vec::new();
    section::<T>(&mut tree, "", given, &mut errors);
    if errors.is_empty() {
        serde_json::from_value(tree).map_err(internal)
    } else {
        Err(Error::invalid_fields("settings.read", errors))
    }
}

/// Puts what one section gives into the tree, setting by setting, so that an error is about this one.
fn section<T: DeserializeOwned>(
    tree: &mut Value,
    place: &str,
    given: &Map<String, Value>,
    errors: &mut Vec<FieldError>,
) {
    for (name, value) in given {
        let pointer = format!("{place}/{name}");
        let known = tree.pointer(place).and_then(Value::as_object);
        match (known.and_then(|known| known.get(name)), value) {
            (None, _) => errors.push(unknown(pointer, name, known)),
            (Some(Value::Object(_)), Value::Object(inner)) => section::<T>(tree, &pointer, inner, errors),
            (Some(Value::Object(_)), _) => {
                errors.push(FieldError::new(pointer, "wrong_type", "must be an object"));
            }
            (Some(_), _) => {
                let mut with = tree.clone();
                if let Some(slot) = with.pointer_mut(&pointer) {
                    *slot = value.clone();
                }
                match T::deserialize(&with) {
                    Ok(_) => *tree = with,
                    Err(error) => errors.push(FieldError::new(pointer, "wrong_type", error.to_string())),
                }
            }
        }
    }
}

fn unknown(pointer: String, name: &str, known: Option<&Map<String, Value>>) -> FieldError {
    let names = || known.into_iter().flat_map(Map::keys).map(String::as_str);
    let has_sections = known.is_some_and(|known| known.values().all(Value::is_object));
    let what = if has_sections { "section" } else { "setting" };
    let message = match nearest_of(name, names()) {
        Some(near) => format!("unknown {what}; did you mean `{near}`"),
        None => format!("unknown {what}; valid names are {}", names().collect::<Vec<_>>().join(", ")),
    };
    FieldError::new(pointer, "unknown_field", message)
}
