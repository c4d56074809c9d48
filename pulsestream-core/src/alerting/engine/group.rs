//! The key of a group: its values in a compact form.

use crate::alerting::Labels;
use crate::event::{Event, FieldPath, ValueRef};
use crate::text::Text;

const MISSING: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const NUMBER: u8 = 3;
const TEXT: u8 = 4;
const OTHER: u8 = 5;

/// The value of every label of an overflow instance.
pub(super) const OVERFLOW_LABEL: &str = "__other__";

/// Appends the key form of a value; arrays and objects group as missing.
pub(super) fn encode_value(value: &ValueRef<'_>, out: &mut Vec<u8>) {
    let mut text = |text: &str| {
        out.push(TEXT);
        out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    };
    match value {
        ValueRef::Text(value) => text(value),
        ValueRef::Severity(severity) => text(severity.as_str()),
        ValueRef::Missing | ValueRef::Composite => out.push(MISSING),
        ValueRef::Bool(value) => out.push(if *value { TRUE } else { FALSE }),
        ValueRef::Number(number) => {
            out.push(NUMBER);
            out.extend_from_slice(&(number + 0.0).to_le_bytes());
        }
    }
}

/// Writes the key of the event's group over what `out` holds.
pub(super) fn encode_group(paths: &[FieldPath], event: &Event, out: &mut Vec<u8>) {
    out.clear();
    paths.iter().for_each(|path| encode_value(&path.value(event), out));
}

/// Returns the key of the overflow instance.
pub(super) fn overflow_key(paths: &[FieldPath]) -> Vec<u8> {
    vec![OTHER; paths.len()]
}

/// Returns the labels of a key; a missing value is the empty text.
pub(super) fn decode_labels(paths: &[FieldPath], mut key: &[u8]) -> Labels {
    let mut labels = Labels::new();
    for path in paths {
        let Some((tag, rest)) = key.split_first() else { break };
        key = rest;
        let value = match *tag {
            FALSE => Text::from("false"),
            TRUE => Text::from("true"),
            OTHER => Text::from(OVERFLOW_LABEL),
            NUMBER => {
                let Some((bytes, rest)) = key.split_first_chunk() else { break };
                key = rest;
                Text::from(f64::from_le_bytes(*bytes).to_string())
            }
            TEXT => {
                let Some((length, rest)) = key.split_first_chunk() else { break };
                let length = u32::from_le_bytes(*length) as usize;
                let Some((bytes, rest)) = rest.split_at_checked(length) else { break };
                key = rest;
                Text::from(&*String::from_utf8_lossy(bytes))
            }
            _ => Text::default(),
        };
        labels.insert(Text::from(path.to_string()), value);
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::EventId;
    use crate::time::Timestamp;

    #[test]
    fn labels_come_back() {
        let mut event = Event::new(EventId::from_u128(1), "e", Timestamp::EPOCH);
        event.source.service = Some("shop".into());
        event.metrics.status_code = Some(503);
        let paths = [FieldPath::SourceService, FieldPath::StatusCode, FieldPath::UserId];
        let mut key = Vec::new();
        encode_group(&paths, &event, &mut key);
        let labels = decode_labels(&paths, &key);
        let shown: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(shown, ["context.user_id=", "metrics.status_code=503", "source.service=shop"]);
        let other = decode_labels(&paths, &overflow_key(&paths));
        assert!(other.values().all(|value| value == OVERFLOW_LABEL) && other.len() == 3);
    }
}
