use proptest::prelude::*;

use super::*;

fn normal(text: &str) -> String {
    JsonObject::parse(text).unwrap().as_str().to_owned()
}

/// Returns pointer and code of every refusal.
fn refused(text: &str) -> Vec<(String, String)> {
    let error = JsonObject::parse(text).unwrap_err();
    error.fields().iter().map(|field| (field.pointer.clone(), field.code.to_string())).collect()
}

fn refused_once(text: &str) -> (String, String) {
    let all = refused(text);
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].clone()
}

fn at(pointer: &str, code: &str) -> (String, String) {
    (pointer.to_owned(), code.to_owned())
}

#[test]
fn white_space_goes_and_keys_are_sorted_at_every_level() {
    assert_eq!(
        normal(" {\t\"b\" : [ 1 , {\"z\":1,\"y\":2} ] ,\r\n\"a\":{\"d\":null,\"c\":true}, \"\":false } "),
        r#"{"":false,"a":{"c":true,"d":null},"b":[1,{"y":2,"z":1}]}"#
    );
    assert_eq!(normal("{}"), "{}");
    assert!(JsonObject::parse(" { } ").unwrap().is_empty());
}

#[test]
fn keys_sort_by_their_decoded_bytes() {
    assert_eq!(normal(r#"{"é":1,"z":2,"\u0041":3,"\n":4}"#), r#"{"\n":4,"A":3,"z":2,"é":1}"#);
    // In UTF-8, U+10000 comes after U+FFFD; in UTF-16 it would come before.
    assert_eq!(normal(r#"{"\ud800\udc00":1,"\ufffd":2}"#), "{\"\u{fffd}\":2,\"\u{10000}\":1}");
}

#[test]
fn strings_have_the_fewest_escapes() {
    assert_eq!(
        normal(r#"{"a":"\/\u0041\u00e9\ud83d\ude00\"\\\b\f\n\r\t\u001F\u007f"}"#),
        "{\"a\":\"/Aé\u{1f600}\\\"\\\\\\b\\f\\n\\r\\t\\u001f\u{7f}\"}"
    );
}

#[test]
fn numbers_lose_exponent_and_negative_zero() {
    for (written, expected) in [
        ("0", "0"),
        ("-0", "0"),
        ("-0.000", "0"),
        ("-0e7", "0"),
        ("0E+5", "0"),
        ("1.0", "1.0"),
        ("1.50", "1.50"),
        ("1e2", "100"),
        ("-1.5E-3", "-0.0015"),
        ("1e-400", "0"),
        ("-1e-400", "0"),
        ("12345678901234567890", "12345678901234567890"),
        ("1e21", "1000000000000000000000"),
    ] {
        assert_eq!(normal(&format!("{{\"n\":{written}}}")), format!("{{\"n\":{expected}}}"));
    }
    for wrong in ["01", "-", "1.", ".5", "+1", "1e", "1e+", "0x1", "NaN", "Infinity", "-a", "1.e1"] {
        assert_eq!(refused_once(&format!("{{\"n\":{wrong}}}")), at("/n", "invalid_json"), "{wrong}");
    }
}

#[test]
fn number_length_and_range_at_the_edge() {
    let fraction = |bytes: usize| format!("{{\"n\":0.{}}}", "1".repeat(bytes - 2));
    assert!(JsonObject::parse(&fraction(400)).is_ok());
    assert_eq!(refused_once(&fraction(401)), at("/n", "number_length"));
    assert!(JsonObject::parse(r#"{"n":1.7976931348623157e308}"#).is_ok());
    assert_eq!(refused_once(r#"{"n":1.8e308}"#), at("/n", "infinite_number"));
    assert_eq!(refused_once(r#"{"n":-1e999999}"#), at("/n", "infinite_number"));
    let digits = |count: usize| format!("{{\"n\":{}}}", "1".repeat(count));
    assert!(JsonObject::parse(&digits(309)).is_ok());
    assert_eq!(refused_once(&digits(310)), at("/n", "infinite_number"));
    assert_eq!(refused_once(&digits(10_000_000)), at("/n", "number_length"));
}

#[test]
fn the_longest_normal_number_is_within_the_limit() {
    for value in ["5e-324", "-2.2250738585072011e-308", "-1.7976931348623157e308"] {
        let once = normal(&format!("{{\"n\":{value}}}"));
        assert_eq!(normal(&once), once);
    }
}

#[test]
fn refused_strings_name_their_place() {
    assert_eq!(refused_once(r#"{"a/b":{"c~d":["x","\u0000"]}}"#), at("/a~1b/c~0d/1", "nul_character"));
    assert_eq!(refused_once(r#"{"a":"\ud800"}"#), at("/a", "lone_surrogate"));
    assert_eq!(
        refused_once(r#"{"a":"\udc00\ud800x"}"#.replace("\\ud800", "").as_str()),
        at("/a", "lone_surrogate")
    );
    assert_eq!(refused_once(r#"{"a":"\ud800\u0041"}"#), at("/a", "lone_surrogate"));
    assert_eq!(refused_once(r#"{"o":{"a":1,"\u0000":2}}"#), at("/o", "nul_character"));
    assert_eq!(refused_once(r#"{"o":{"a":1,"\ud800":2}}"#), at("/o", "lone_surrogate"));
    assert_eq!(refused_once("{\"a\":\"\u{0}\"}"), at("/a", "invalid_json"));
    assert_eq!(refused_once("{\"a\":\"line\nline\"}"), at("/a", "invalid_json"));
    assert_eq!(refused_once(r#"{"a":"\x"}"#), at("/a", "invalid_json"));
    assert_eq!(refused_once(r#"{"a":"\u12g4"}"#), at("/a", "invalid_json"));
}

#[test]
fn every_refused_value_is_reported() {
    assert_eq!(
        refused(r#"{"a":"\u0000","b":1e999,"c":{"x":1,"y":2,"x":3},"d":"\udfff"}"#),
        [
            at("/a", "nul_character"),
            at("/b", "infinite_number"),
            at("/c/x", "duplicate_key"),
            at("/d", "lone_surrogate")
        ]
    );
    let many = format!("{{\"a\":[{}1]}}", "1e999,".repeat(100_000));
    let all = refused(&many);
    assert_eq!(all.len(), 65);
    assert_eq!(all[64], at("", "too_many_errors"));
}

#[test]
fn duplicate_keys_are_found_sorted_or_not_and_however_written() {
    for text in
        [r#"{"a":1,"a":2}"#, r#"{"a":1,"b":2,"a":3}"#, r#"{"b":1,"\u0061":2,"a":3}"#, r#"{"a":1,"\u0061":1}"#]
    {
        assert_eq!(refused_once(text), at("/a", "duplicate_key"), "{text}");
    }
}

#[test]
fn depth_at_the_edge() {
    let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    assert_eq!(normal(&nested(64)), nested(64));
    assert_eq!(refused_once(&nested(65)), at(&"/a".repeat(64), "depth"));
    assert_eq!(refused(&nested(10_000)).len(), 1);
    let unbalanced = format!("{{\"a\":{}", "[".repeat(1_000_000));
    let all = refused(&unbalanced);
    assert_eq!(all[0].1, "depth");
    assert_eq!(all[1].1, "invalid_json");
    let balanced = format!("{{\"a\":{}{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    assert_eq!(refused_once(&balanced).1, "depth");
}

#[test]
fn number_of_keys_at_the_edge() {
    let keys = |count: usize| {
        let members: Vec<_> = (0..count - 1).map(|index| format!("\"k{index}\":{index}")).collect();
        format!("{{\"inner\":{{{}}}}}", members.join(","))
    };
    assert!(JsonObject::parse(&keys(2_000)).is_ok());
    assert_eq!(refused_once(&keys(2_001)).1, "too_many_keys");
}

#[test]
fn what_is_no_object_is_refused() {
    for text in [
        "",
        " ",
        "[]",
        "1",
        "null",
        "{",
        "}",
        "{]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\":1 \"b\":2}",
        "{a:1}",
        "{\"a\":[1,]}",
        "{\"a\":[,1]}",
        "{\"a\":[1 2]}",
        "{} {}",
        "{\"a\":tru}",
        "{\"a\":\"",
        "{\"a\":\"\\",
        "{\"a\":é}",
        "{'a':1}",
        "{\"a\":1}x",
        "{\"a\":nul",
        "{\"a\":\"\\u00",
    ] {
        assert_eq!(refused_once(text).1, "invalid_json", "{text}");
    }
    let error = JsonObject::parse("\u{feff}{}").unwrap_err();
    assert_eq!(error.fields()[0].code, "byte_order_mark");
}

#[test]
fn get_finds_values_without_a_tree() {
    let object = JsonObject::parse(
        r#"{"a":{"b":[10,{"c":"x\ny"},[true]],"n":null},"0":"zero","k\"ey":-1.5,"z":false,"e":{}}"#,
    )
    .unwrap();
    let get = |path: &str| {
        let path: Vec<Text> = path.split('/').map(Text::from).collect();
        object.get(&path)
    };
    assert_eq!(get("a/b/0"), ValueRef::Number(10.0));
    assert_eq!(get("a/b/1/c"), ValueRef::Text("x\ny".into()));
    assert_eq!(get("a/b/2/0"), ValueRef::Bool(true));
    assert_eq!(get("a/n"), ValueRef::Missing);
    assert_eq!(get("a/b"), ValueRef::Composite);
    assert_eq!(get("e"), ValueRef::Composite);
    assert_eq!(get("0"), ValueRef::Text("zero".into()));
    assert_eq!(get("k\"ey"), ValueRef::Number(-1.5));
    assert_eq!(get("z"), ValueRef::Bool(false));
    for missing in [
        "a/b/3",
        "a/b/00",
        "a/b/+0",
        "a/b/-1",
        "a/b/",
        "a/b/99999999999999999999",
        "a/b/0/x",
        "q",
        "a/b/1/d",
        "z/0",
    ] {
        assert_eq!(get(missing), ValueRef::Missing, "{missing}");
    }
    assert!(matches!(get("0"), ValueRef::Text(Cow::Borrowed(_))));
    assert_eq!(object.get(&[]), ValueRef::Composite);
    assert_eq!(JsonObject::default().get(&[Text::from("a")]), ValueRef::Missing);
}

#[test]
fn leaves_and_members_come_in_key_order() {
    let object =
        JsonObject::parse(r#"{"b":{"c\n":{"d":1},"e":[{"f":1}]},"a":"x","n":null,"o":{},"\t":true}"#)
            .unwrap();
    let mut found = Vec::new();
    object.leaves(&mut |path, value| found.push((path.join("/"), value)));
    let text = |value: &'static str| ValueRef::Text(Cow::Borrowed(value));
    assert_eq!(
        found,
        [
            ("\t".to_owned(), ValueRef::Bool(true)),
            ("a".to_owned(), text("x")),
            ("b/c\n/d".to_owned(), ValueRef::Number(1.0)),
            ("b/e".to_owned(), ValueRef::Composite),
            ("n".to_owned(), ValueRef::Missing),
            ("o".to_owned(), ValueRef::Composite),
        ]
    );
    let members: Vec<_> = object.iter().map(|(key, value)| format!("{key}={}", value.as_str())).collect();
    assert_eq!(members, ["\t=true", "a=\"x\"", "b={\"c\\n\":{\"d\":1},\"e\":[{\"f\":1}]}", "n=null", "o={}"]);
}

#[test]
fn trees_convert_both_ways() {
    let value = serde_json::json!({"b": [1, 2.5, "x\u{1}"], "a": {"d": null, "c": -7}});
    let object = JsonObject::from_value(&value).unwrap();
    assert_eq!(object.as_str(), r#"{"a":{"c":-7,"d":null},"b":[1,2.5,"x\u0001"]}"#);
    assert_eq!(object.to_value(), value);
    assert_eq!(JsonObject::default().to_value(), serde_json::json!({}));
    assert!(JsonObject::from_value(&serde_json::json!([1])).is_err());
    let mut deep = serde_json::json!({});
    for _ in 0..63 {
        deep = serde_json::json!({ "a": deep });
    }
    assert!(JsonObject::from_value(&deep).is_ok());
    deep = serde_json::json!({ "a": deep });
    assert_eq!(JsonObject::from_value(&deep).unwrap_err().fields()[0].code, "depth");
    let nul = JsonObject::from_value(&serde_json::json!({"a": "\u{0}"})).unwrap_err();
    assert_eq!(nul.fields()[0].pointer, "/a");
}

/// Any tree, as its text: keys in any order, strings with any escapes, numbers with exponents, white space.
fn arbitrary_json() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        (-1e9..1e9).prop_map(|value: f64| format!("{value:e}")),
        arbitrary_string(),
    ];
    scalar.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5)
                .prop_map(|items| format!("[ {} ]", items.join(" ,\n"))),
            object_of(inner),
        ]
    })
}

fn object_of(inner: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    prop::collection::vec((arbitrary_string(), inner), 0..6).prop_map(|members| {
        let mut seen = std::collections::BTreeSet::new();
        let members: Vec<_> = members
            .into_iter()
            .filter(|(key, _)| seen.insert(serde_json::from_str::<String>(key).unwrap()))
            .map(|(key, value)| format!("{key} : {value}"))
            .collect();
        format!("{{{}}}", members.join(", "))
    })
}

fn arbitrary_string() -> impl Strategy<Value = String> {
    prop::collection::vec((any::<char>().prop_filter("NUL", |char| *char != '\0'), any::<bool>()), 0..12)
        .prop_map(|chars| {
            let mut text = String::from("\"");
            for (char, escaped) in chars {
                if escaped || char < ' ' || char == '"' || char == '\\' {
                    let mut units = [0; 2];
                    for unit in char.encode_utf16(&mut units) {
                        text.push_str(&format!("\\u{unit:04X}"));
                    }
                } else {
                    text.push(char);
                }
            }
            text + "\""
        })
}

proptest! {
    #[test]
    fn normal_form_is_a_fixed_point_with_the_same_meaning(text in object_of(arbitrary_json())) {
        let object = JsonObject::parse(&text).unwrap();
        let again = JsonObject::parse(object.as_str()).unwrap();
        prop_assert_eq!(object.as_str(), again.as_str());
        let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert!(same_meaning(&object.to_value(), &expected), "{} became {}", text, object.as_str());
        if let serde_json::Value::Object(map) = &expected {
            for (key, value) in map {
                let found = object.get(&[Text::from(key.as_str())]);
                match value {
                    serde_json::Value::Null => prop_assert_eq!(found, ValueRef::Missing),
                    serde_json::Value::Bool(value) => prop_assert_eq!(found, ValueRef::Bool(*value)),
                    serde_json::Value::Number(value) => prop_assert_eq!(found.as_number(), value.as_f64()),
                    serde_json::Value::String(value) => prop_assert_eq!(found, ValueRef::Text(value.into())),
                    _ => prop_assert_eq!(found, ValueRef::Composite),
                }
            }
        }
    }

    #[test]
    fn any_text_is_read_or_refused_as_serde_json_does(text in "[\\{\\}\\[\\]:,\"a\\\\u01 .eE+-]{0,24}") {
        let ours = JsonObject::parse(&text);
        let theirs = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text);
        match (ours, theirs) {
            (Ok(_), Err(error)) => prop_assert!(false, "accepted {:?}: {}", text, error),
            (Err(error), Ok(_)) => {
                let is_syntax = error.fields().iter().any(|field| field.code == "invalid_json");
                prop_assert!(!is_syntax, "refused {:?}: {}", text, error);
            }
            _ => {}
        }
    }
}

/// Compares numbers as doubles: an exponent that is written out becomes an integer for serde_json.
fn same_meaning(left: &serde_json::Value, right: &serde_json::Value) -> bool {
    use serde_json::Value;
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same_meaning(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().zip(right).all(|((left_key, left), (right_key, right))| {
                    left_key == right_key && same_meaning(left, right)
                })
        }
        (left, right) => left == right,
    }
}
