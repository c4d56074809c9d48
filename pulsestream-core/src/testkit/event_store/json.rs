//! JSON objects: what was normalised once comes back as it is, and means the same in a filter.

use super::probe::Probe;
use crate::event::Event;
use crate::testkit::events::{event, event_with, id, json, payload};

async fn assert_comes_back(probe: &Probe, event: Event) {
    probe.append(vec![event.clone()]).await;
    assert_eq!(probe.get(&event.id.clone()).await, Some(event), "it comes back in its normal form");
}

/// Objects nested as deep as allowed.
pub(super) async fn json_nested_deep(probe: Probe) {
    let deep = format!("{}1{}", r#"{"a":"#.repeat(64), "}".repeat(64));
    assert_comes_back(&probe, payload("objects", 0, &deep)).await;
    let arrays = format!(r#"{{"a":{}7{}}}"#, "[".repeat(63), "]".repeat(63));
    assert_comes_back(&probe, payload("arrays", 1, &arrays)).await;
    let mixed = format!(r#"{{"a":{}1{}}}"#, r#"[{"b":"#.repeat(31), "}]".repeat(31));
    assert_comes_back(&probe, payload("mixed", 2, &mixed)).await;
    probe
        .assert_matching(&[
            ("payload.a.a.a.a.a.a.a.a = 1", ""),
            ("exists(payload.a.a.a.a.a.a.a.a)", "objects"),
            ("payload.a.0.b.0.b = 1", ""),
            ("exists(payload.a.0.b.0.b)", "mixed"),
        ])
        .await;
}

/// Escapes are a way to write, not a value.
pub(super) async fn json_escapes(probe: Probe) {
    let escaped = payload("a", 0, r#"{"v":"\u0041\u00e9\ud83e\udd80\n\t\"\\\/","\u0041":1}"#);
    let plain = payload("b", 1, "{\"v\":\"A\u{e9}\u{1f980}\\n\\t\\\"\\\\/\",\"A\":1}");
    assert_eq!(escaped.payload, plain.payload);
    assert_comes_back(&probe, escaped).await;
    assert_comes_back(&probe, plain).await;
    probe
        .assert_matching(&[
            ("payload.v starts_with 'A\u{e9}\u{1f980}'", "a b"),
            (r#"payload.v contains '"\\/'"#, "a b"),
            (r"payload.v contains '\n\t'", "a b"),
            ("payload.A = 1", "a b"),
        ])
        .await;
}

/// Control characters in texts and keys.
pub(super) async fn json_control_characters(probe: Probe) {
    let all: String = (1_u32..32).map(|code| format!("\\u{code:04x}")).collect();
    assert_comes_back(&probe, payload("a", 0, &format!(r#"{{"v":"{all}","k{all}":1}}"#))).await;
    assert_comes_back(&probe, payload("b", 1, "{\"v\":\"\u{7f}\u{85}\u{2028}\u{2029}\u{feff}\"}")).await;
}

/// Numbers keep the digits they were written with, and compare as doubles.
pub(super) async fn json_long_numbers(probe: Probe) {
    let numbers = [
        "123456789012345678901234567890",
        "0.1000",
        "1.00000000000000000000000000000001",
        "9007199254740993",
        "18446744073709551616",
        "-9223372036854775809",
        "0.1e-5",
        "12e20",
        "1.7976931348623157e308",
        "5e-324",
    ];
    for (index, number) in (0_i64..).zip(numbers) {
        assert_comes_back(&probe, payload(&format!("n{index}"), index, &format!(r#"{{"v":{number}}}"#)))
            .await;
    }
    probe
        .assert_matching(&[
            ("payload.v = 123456789012345678901234567890", "n0"),
            ("payload.v = 0.1", "n1"),
            ("payload.v = 1", "n2"),
            ("payload.v = 9007199254740992", "n3"),
            ("payload.v = 18446744073709551616", "n4"),
            ("payload.v < -9e18", "n5"),
            ("payload.v = 1200000000000000000000", "n7"),
            ("payload.v > 1e308", "n8"),
            ("payload.v > 0 and payload.v < 1e-300", "n9"),
        ])
        .await;
}

/// Keys of every kind, in the order of their bytes.
pub(super) async fn json_keys(probe: Probe) {
    let keys = r#"{"z":1,"":2,"a.b":3,"a":{"b":4},"A":5,"\"":6,"\\":7,"0":8," ":9,"é":10,"🦀":11,"__proto__":12,"$a":13,"a'b":14,"%s":15}"#;
    assert_comes_back(&probe, payload("a", 0, keys)).await;
    let many: Vec<String> = (0..1_999).map(|number| format!(r#""k{number}":{number}"#)).collect();
    assert_comes_back(&probe, payload("b", 1, &format!("{{{}}}", many.join(",")))).await;
    probe.assert_matching(&[("payload.k1998 = 1998", "b"), ("payload.\"a'b\" = 14", "a")]).await;
}

/// An empty object is no payload; empty containers inside are values.
pub(super) async fn json_empty_containers(probe: Probe) {
    let empty = event_with("empty", 0, |event| event.payload = json(" { } "));
    assert_eq!(empty.payload, event("empty", 0).payload);
    assert_comes_back(&probe, empty).await;
    assert_comes_back(&probe, payload("inside", 1, r#"{"o":{},"a":[],"n":null,"d":{"e":{"f":[]}}}"#)).await;
    probe
        .assert_matching(&[
            ("exists(payload.o) and exists(payload.a) and exists(payload.d.e.f)", "inside"),
            ("exists(payload.n)", ""),
        ])
        .await;
}

/// A big payload comes back whole.
pub(super) async fn json_big(probe: Probe) {
    let text = "x\u{1f980}\\n".repeat(100_000);
    assert_comes_back(&probe, payload("a", 0, &format!(r#"{{"big":"{text}","after":true}}"#))).await;
    assert_comes_back(&probe, payload("b", 1, &format!(r#"{{"a":[{}0]}}"#, "0.5,".repeat(100_000)))).await;
    probe.assert_matching(&[("payload.after = true", "a"), ("payload.a.99999 = 0.5", "b")]).await;
    assert!(probe.get(&id("a")).await.is_some());
}
