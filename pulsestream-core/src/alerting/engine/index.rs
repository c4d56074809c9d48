//! Which rules may match an event: an index on the equality predicates of their filters.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use crate::alerting::Rule;
use crate::event::{Event, FieldPath, Value, ValueRef};

/// Passes a 64-bit key on that is a keyed hash already.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Passthrough(u64);

impl Hasher for Passthrough {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

pub(super) type HashedMap<V> = HashMap<u64, V, BuildHasherDefault<Passthrough>>;

/// Most fields of one lookup, and most keys that one rule is filed under.
const MAX_FIELDS: usize = 3;
const MAX_KEYS: usize = 64;

/// Rules whose filters demand values of the same fields.
#[derive(Debug)]
struct Shape {
    fields: Vec<usize>,
    rules: HashedMap<Vec<u32>>,
}

/// Finds the rules that may match an event with one hash look-up for each combination of fields that rules demand.
///
/// A hit is a hint: the filter decides. Hashes are keyed at random, so nobody can prepare events that collide.
#[derive(Debug, Default)]
pub(super) struct RuleIndex {
    fields: Vec<FieldPath>,
    shapes: Vec<Shape>,
    /// Rules without an equality predicate.
    always: Vec<u32>,
    keys: RandomState,
}

impl RuleIndex {
    pub(super) fn new<'a>(rules: impl Iterator<Item = (u32, &'a Rule)>) -> Self {
        let mut index = Self::default();
        for (number, rule) in rules {
            index.insert(number, rule);
        }
        index
    }

    fn insert(&mut self, number: u32, rule: &Rule) {
        let constraints = usable_constraints(rule);
        if constraints.is_empty() {
            self.always.push(number);
            return;
        }
        let fields: Vec<usize> = constraints.iter().map(|(field, _)| self.field(field)).collect();
        let mut keys = vec![0_u64];
        for (position, (_, values)) in constraints.iter().enumerate() {
            keys = keys
                .iter()
                .flat_map(|key| values.iter().map(move |value| (*key, value)).collect::<Vec<_>>())
                .map(|(key, value)| combine(key, position, self.hash(&as_ref(value))))
                .collect();
        }
        let shape = match self.shapes.iter().position(|shape| shape.fields == fields) {
            Some(shape) => shape,
            None => {
                self.shapes.push(Shape { fields, rules: HashedMap::default() });
                self.shapes.len() - 1
            }
        };
        for key in keys {
            let filed = self.shapes[shape].rules.entry(key).or_default();
            if filed.last() != Some(&number) {
                filed.push(number);
            }
        }
    }

    fn field(&mut self, field: &FieldPath) -> usize {
        self.fields.iter().position(|known| known == field).unwrap_or_else(|| {
            self.fields.push(field.clone());
            self.fields.len() - 1
        })
    }

    fn hash(&self, value: &ValueRef<'_>) -> u64 {
        let mut hasher = self.keys.build_hasher();
        match value {
            ValueRef::Text(text) => hasher.write(text.as_bytes()),
            ValueRef::Severity(severity) => hasher.write(severity.as_str().as_bytes()),
            ValueRef::Number(number) => hasher.write_u64((number + 0.0).to_bits()),
            ValueRef::Bool(value) => hasher.write_u8(u8::from(*value)),
            ValueRef::Missing | ValueRef::Composite => hasher.write_u16(0),
        }
        hasher.finish()
    }

    /// Calls `visit` with every rule that may match.
    pub(super) fn candidates(&self, event: &Event, hashes: &mut Vec<u64>, mut visit: impl FnMut(u32)) {
        hashes.clear();
        hashes.extend(self.fields.iter().map(|field| self.hash(&field.value(event))));
        for shape in &self.shapes {
            let fields = shape.fields.iter().enumerate();
            let key = fields.fold(0, |key, (position, field)| combine(key, position, hashes[*field]));
            if let Some(rules) = shape.rules.get(&key) {
                rules.iter().for_each(|rule| visit(*rule));
            }
        }
        self.always.iter().for_each(|rule| visit(*rule));
    }
}

/// The constraints to file a rule under, in a fixed order of fields: the cheap fields, or one of the application's own.
fn usable_constraints(rule: &Rule) -> Vec<(FieldPath, Vec<Value>)> {
    let mut constraints = rule.filter.equality_constraints();
    let is_cheap = |field: &FieldPath| !matches!(field, FieldPath::Payload(_) | FieldPath::Metadata(_));
    if constraints.iter().any(|(field, _)| is_cheap(field)) {
        constraints.retain(|(field, _)| is_cheap(field));
    } else {
        constraints.truncate(1);
    }
    constraints.sort_by_key(|(field, values)| (values.len(), field.clone()));
    constraints.dedup_by(|later, first| later.0 == first.0);
    constraints.truncate(MAX_FIELDS);
    while constraints.iter().map(|(_, values)| values.len()).product::<usize>() > MAX_KEYS {
        constraints.pop();
    }
    constraints.sort_by(|left, right| left.0.cmp(&right.0));
    constraints
}

fn as_ref(value: &Value) -> ValueRef<'_> {
    match value {
        Value::Missing => ValueRef::Missing,
        Value::Bool(value) => ValueRef::Bool(*value),
        Value::Number(number) => ValueRef::Number(*number),
        Value::Text(text) => ValueRef::Text(text.as_str().into()),
    }
}

/// Mixes the hash of one more field in; the position keeps equal values of two fields apart.
fn combine(key: u64, position: usize, hash: u64) -> u64 {
    (key.rotate_left(23) ^ hash).wrapping_add(position as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerting::RuleKind;
    use crate::filter::Filter;
    use crate::id::{EventId, RuleId};
    use crate::time::Timestamp;

    #[test]
    fn finds_every_rule_that_matches() {
        let filters = [
            "event_type = 'order'",
            "event_type in ['order', 'refund'] and source.service = 'shop'",
            "severity = 'error' and event_type = 'order'",
            "metrics.status_code >= 500",
            "event_type = 'login'",
            "payload.plan = 'free'",
            "event_type = 'order' and source.service = 'other'",
            "context.user_id = 'u1' or context.user_id = 'u2'",
        ];
        let rules: Vec<Rule> = (1..)
            .zip(filters)
            .map(|(id, text)| {
                let window = std::time::Duration::from_secs(60);
                let mut rule = Rule::new(RuleId::from_u128(id), text, RuleKind::Absence { window });
                rule.filter = text.parse::<Filter>().unwrap();
                rule
            })
            .collect();
        let index = RuleIndex::new((0..).zip(&rules));
        let mut event = Event::new(EventId::from_u128(1), "order", Timestamp::EPOCH);
        event.source.service = Some("shop".into());
        event.severity = crate::event::Severity::Error;
        event.metrics.status_code = Some(500);
        event.context.user_id = Some("u2".into());
        let mut found = Vec::new();
        index.candidates(&event, &mut Vec::new(), |rule| found.push(rule));
        found.sort_unstable();
        assert_eq!(found, [0, 1, 2, 3, 7]);
    }
}
