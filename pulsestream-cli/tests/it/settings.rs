//! The settings file.

use serde_json::Value;

use crate::program::{fail, path, succeed};

/// Calls `visit` with the dotted name and the default of every setting.
fn each(place: &str, value: &Value, visit: &mut dyn FnMut(&str, &Value)) {
    match value {
        Value::Object(settings) => {
            for (name, value) in settings {
                let joint = if place.is_empty() { "" } else { "." };
                each(&format!("{place}{joint}{name}"), value, visit);
            }
        }
        _ => visit(place, value),
    }
}

#[test]
fn the_page_of_settings_lists_each_with_its_default() {
    let page = include_str!("../../../docs/settings.md");
    let printed: Value = serde_json::from_str(&succeed(&["settings"])).unwrap();
    let mut expected = Vec::new();
    each("", &printed, &mut |name, value| expected.push(format!("| `{name}` | `{value}` |")));
    let listed: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let missing: Vec<_> =
        expected.iter().filter(|row| !listed.iter().any(|line| line.starts_with(*row))).collect();
    assert!(missing.is_empty(), "docs/settings.md lacks rows that begin so: {missing:#?}");
    let gone: Vec<_> =
        listed.iter().filter(|line| !expected.iter().any(|row| line.starts_with(row))).collect();
    assert!(gone.is_empty(), "docs/settings.md has rows of no setting: {gone:#?}");
}

#[test]
fn a_file_is_read_over_the_defaults_and_every_error_comes_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.json");
    let written = r#"{"query": {"timeout": "5s"}, "accounts": {"password": {"min_chars": 12}}, "embedded": {"cache_bytes": 1048576},
        "redis": {"queue": {"promised_durability": "durable"}}}"#;
    std::fs::write(&file, written).unwrap();
    let printed: Value = serde_json::from_str(&succeed(&["settings", "--config", path(&file)])).unwrap();
    assert_eq!(printed["query"]["timeout"], "5s");
    assert_eq!(printed["accounts"]["password"]["min_chars"], 12);
    assert_eq!(printed["redis"]["queue"]["promised_durability"], "durable");
    assert_eq!(printed["embedded"]["query_threads"], 2, "what is absent has its default");
    // What was printed is a settings file.
    std::fs::write(&file, printed.to_string()).unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&succeed(&["settings", "--config", path(&file)])).unwrap(),
        printed
    );

    std::fs::write(
        &file,
        r#"{"querry": {}, "accounts": {"passwort": {}}, "embedded": {"cache_bytes": "many"}}"#,
    )
    .unwrap();
    let complaint = fail(&["settings", "--config", path(&file)]);
    for part in [
        "/querry",
        "did you mean `query`",
        "did you mean `password`",
        "/embedded/cache_bytes",
        "settings.json",
    ] {
        assert!(complaint.contains(part), "{part}: {complaint}");
    }
    std::fs::write(&file, r#"{"embedded": {"query_threads": 0}, "postgres": {"max_connections": 0}}"#)
        .unwrap();
    let store = folder.path().join("store");
    let complaint = fail(&["serve", "--store", path(&store), "--config", path(&file)]);
    for part in ["/embedded/query_threads", "/postgres/max_connections"] {
        assert!(complaint.contains(part), "{part}: {complaint}");
    }
    assert!(!store.exists(), "nothing is opened with wrong settings");
}
