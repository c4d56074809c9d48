//! What JSON a request may hold, compiled from the schema that the OpenAPI document shows, so that both say the same.

mod check;
mod compile;
mod read;

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use utoipa::ToSchema;

pub(crate) use compile::components;

/// What a value may be. The subset of JSON Schema 2020-12 that the schemas of this crate use.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    /// Anything.
    Any,
    /// Null or the other.
    Nullable(Box<Shape>),
    Boolean,
    Integer {
        min: Option<i64>,
        max: Option<i64>,
    },
    Number {
        min: Option<f64>,
        max: Option<f64>,
    },
    Text(TextShape),
    Array {
        items: Box<Shape>,
        min: usize,
        max: usize,
    },
    Object(ObjectShape),
    /// At least one of them.
    OneOf(Vec<Shape>),
}

#[derive(Debug, Clone, Default)]
pub(crate) struct TextShape {
    pub(crate) min: usize,
    pub(crate) max: Option<usize>,
    pub(crate) names: Vec<String>,
    pub(crate) is_time: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct ObjectShape {
    pub(crate) properties: Vec<Property>,
    pub(crate) others: Others,
}

#[derive(Debug, Clone)]
pub(crate) struct Property {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    pub(crate) is_required: bool,
}

/// What becomes of members that are no property.
#[derive(Debug, Clone, Default)]
pub(crate) enum Others {
    #[default]
    Ignored,
    Refused,
    Are(Box<Shape>),
}

/// The shapes of the types that requests are read as, each compiled once.
#[derive(Debug, Default)]
pub(crate) struct Shapes(RwLock<HashMap<TypeId, Arc<Shape>>>);

impl Shapes {
    /// Returns the shape of a type.
    pub(crate) fn of<T: ToSchema + 'static>(&self) -> Arc<Shape> {
        let key = TypeId::of::<T>();
        if let Some(shape) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return shape.clone();
        }
        let shape = Arc::new(compile::shape::<T>());
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(key, shape.clone());
        shape
    }
}
