use pulsestream_core::event::{JsonObject, Severity};
use pulsestream_core::testkit::EventGenerator;
use pulsestream_core::testkit::model::Draw;

use super::*;
use crate::EventWriter;

fn file_of(events: &[Event]) -> Vec<u8> {
    let mut writer = EventWriter::new(Vec::new()).unwrap();
    for chunk in events.chunks(700) {
        writer.write(chunk.to_vec()).unwrap();
    }
    writer.finish().unwrap()
}

fn events_in(file: Vec<u8>) -> Vec<Event> {
    let mut reader = EventReader::from_bytes(file).unwrap();
    let mut events = Vec::new();
    while let Some(rows) = reader.next_batch().unwrap() {
        events.extend(rows.into_iter().map(Result::unwrap));
    }
    assert_eq!(events.len() as u64, reader.rows());
    events
}

#[test]
fn events_read_back_as_they_were() {
    let mut events: Vec<Event> = EventGenerator::new(3).take(70_000).collect();
    let draw = Draw::new(5);
    events.extend((0..3_000).map(|_| draw.event(0)));
    let mut corner = events[0].clone();
    corner.severity = Severity::Critical;
    corner.timestamp = Timestamp::from_micros(-1);
    corner.metrics.response_size_bytes = Some(1 << 53);
    corner.metrics.response_time_ms = Some(f64::MIN_POSITIVE);
    corner.payload =
        JsonObject::parse(r#"{"price": 1.40, "n": 123456789012345678901234567890, "s": "\u00e9\n"}"#)
            .unwrap();
    corner.title = Some("".into());
    events.push(corner);
    // The model draws `error: Some(empty)`, which is the same as none and is never stored.
    for event in &mut events {
        event.error = event.error.take().filter(|error| **error != Default::default());
    }
    assert_eq!(events_in(file_of(&events)), events);
    assert_eq!(events_in(file_of(&[])), []);
}

#[test]
fn a_file_that_was_cut_or_changed_is_refused_without_a_panic() {
    let events: Vec<Event> = EventGenerator::new(3).take(50).collect();
    let file = file_of(&events);
    for length in [0, 3, 4, 100, file.len() / 2, file.len() - 1] {
        let error = EventReader::from_bytes(file[..length].to_vec()).unwrap_err();
        assert_eq!(error.kind(), pulsestream_core::ErrorKind::Invalid, "{length}");
    }
    for at in (0..file.len()).step_by(97) {
        let mut damaged = file.clone();
        damaged[at] ^= 0x10;
        let Ok(mut reader) = EventReader::from_bytes(damaged) else { continue };
        while let Ok(Some(_)) = reader.next_batch() {}
    }
}
