//! Reads settings from a tree, with every error at once.

use serde_json::{Map, Value};

use super::Settings;
use crate::error::{Error, FieldError, Result};
use crate::event::nearest_of;

/// Reads the sections and settings that are there over the defaults.
pub(super) fn settings(given: &Value) -> Result<Settings> {
    let Value::Object(given) = given else {
        return Err(Error::invalid("settings.read", "", "wrong_type", "settings must be an object"));
    };
    let defaults = serde_json::to_value(Settings::default())
        .map_err(|error| Error::invalid("settings.read", "", "internal", error.to_string()))?;
    let mut settings = Settings::default();
    let mut errors = Vec::new();
    for (section, given) in given {
        let pointer = format!("/{section}");
        let known = match defaults.get(section) {
            Some(Value::Object(known)) => known,
            _ => {
                errors.push(unknown(&pointer, section, "section", defaults.as_object()));
                continue;
            }
        };
        let Value::Object(given) = given else {
            errors.push(FieldError::new(pointer, "wrong_type", "must be an object"));
            continue;
        };
        for (name, value) in given {
            let pointer = format!("{pointer}/{name}");
            if !known.contains_key(name) {
                errors.push(unknown(&pointer, name, "setting", Some(known)));
                continue;
            }
            match with_setting(&settings, section, name, value) {
                Ok(with) => settings = with,
                Err(error) => errors.push(FieldError::new(pointer, "wrong_type", error.to_string())),
            }
        }
    }
    if errors.is_empty() { Ok(settings) } else { Err(Error::invalid_fields("settings.read", errors)) }
}

/// Reads one setting over the others, so that an error is about this one.
fn with_setting(
    settings: &Settings,
    section: &str,
    name: &str,
    value: &Value,
) -> serde_json::Result<Settings> {
    let mut tree = serde_json::to_value(settings)?;
    tree[section][name] = value.clone();
    serde_json::from_value(tree)
}

fn unknown(pointer: &str, name: &str, what: &str, known: Option<&Map<String, Value>>) -> FieldError {
    let names = || known.into_iter().flat_map(Map::keys).map(String::as_str);
    let message = match nearest_of(name, names()) {
        Some(near) => format!("unknown {what}; did you mean `{near}`"),
        None => format!("unknown {what}; valid names are {}", names().collect::<Vec<_>>().join(", ")),
    };
    FieldError::new(pointer, "unknown_field", message)
}
