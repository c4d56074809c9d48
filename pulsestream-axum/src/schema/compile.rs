//! From a schema of utoipa to a shape.

use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{ObjectShape, Others, Property, Shape, TextShape};

const REFERENCE: &str = "#/components/schemas/";

/// Adds the schema of a type, and of all that it refers to, under their names; returns a reference to it.
pub(crate) fn components<T: ToSchema>(into: &mut Map<String, Value>) -> Value {
    let mut all = Vec::new();
    T::schemas(&mut all);
    all.push((T::name().into_owned(), T::schema()));
    for (name, schema) in all {
        into.entry(name).or_insert_with(|| serde_json::to_value(schema).unwrap_or_default());
    }
    serde_json::json!({"$ref": format!("{REFERENCE}{}", T::name())})
}

/// Compiles the shape of a type.
pub(super) fn shape<T: ToSchema>() -> Shape {
    let mut named = Map::new();
    let root = components::<T>(&mut named);
    compile(&root, &named)
}

fn compile(schema: &Value, named: &Map<String, Value>) -> Shape {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix(REFERENCE)) {
        return named.get(name).map_or(Shape::Any, |schema| compile(schema, named));
    }
    if let Some(parts) = schema["allOf"].as_array() {
        return merge(parts.iter().map(|part| compile(part, named)));
    }
    for key in ["oneOf", "anyOf"] {
        if let Some(parts) = schema[key].as_array() {
            return one_of(parts, named);
        }
    }
    match &schema["type"] {
        Value::String(name) => of_type(name, schema, named),
        Value::Array(names) => {
            let types: Vec<_> =
                names.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect();
            let shape = match types.as_slice() {
                [only] => of_type(only, schema, named),
                many => Shape::OneOf(many.iter().map(|name| of_type(name, schema, named)).collect()),
            };
            if types.len() < names.len() { Shape::Nullable(Box::new(shape)) } else { shape }
        }
        _ => Shape::Any,
    }
}

fn one_of(parts: &[Value], named: &Map<String, Value>) -> Shape {
    let is_null = |part: &&Value| part["type"] == "null";
    let has_null = parts.iter().any(|part| is_null(&part));
    let mut shapes: Vec<_> =
        parts.iter().filter(|part| !is_null(part)).map(|part| compile(part, named)).collect();
    let shape = if shapes.len() == 1 { shapes.remove(0) } else { Shape::OneOf(shapes) };
    if has_null { Shape::Nullable(Box::new(shape)) } else { shape }
}

fn merge(parts: impl Iterator<Item = Shape>) -> Shape {
    let mut merged = ObjectShape::default();
    for part in parts {
        if let Shape::Object(object) = part {
            merged.properties.extend(object.properties);
            if !matches!(object.others, Others::Ignored) {
                merged.others = object.others;
            }
        }
    }
    Shape::Object(merged)
}

fn of_type(name: &str, schema: &Value, named: &Map<String, Value>) -> Shape {
    let count = |key: &str| schema[key].as_u64().and_then(|count| usize::try_from(count).ok());
    match name {
        "boolean" => Shape::Boolean,
        "integer" => Shape::Integer { min: schema["minimum"].as_i64(), max: schema["maximum"].as_i64() },
        "number" => Shape::Number { min: schema["minimum"].as_f64(), max: schema["maximum"].as_f64() },
        "string" => Shape::Text(TextShape {
            min: count("minLength").unwrap_or(0),
            max: count("maxLength"),
            names: strings(&schema["enum"]),
            is_time: schema["format"] == "date-time",
        }),
        "array" => Shape::Array {
            items: Box::new(compile(&schema["items"], named)),
            min: count("minItems").unwrap_or(0),
            max: count("maxItems").unwrap_or(usize::MAX),
        },
        "object" => Shape::Object(object(schema, named)),
        _ => Shape::Any,
    }
}

fn object(schema: &Value, named: &Map<String, Value>) -> ObjectShape {
    let required = strings(&schema["required"]);
    let properties = schema["properties"].as_object().into_iter().flatten();
    let properties = properties.map(|(name, schema)| Property {
        name: name.clone(),
        shape: compile(schema, named),
        is_required: required.contains(name),
    });
    let others = match &schema["additionalProperties"] {
        Value::Bool(false) => Others::Refused,
        Value::Object(_) => Others::Are(Box::new(compile(&schema["additionalProperties"], named))),
        _ => Others::Ignored,
    };
    ObjectShape { properties: properties.collect(), others }
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
