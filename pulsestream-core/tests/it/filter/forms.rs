//! Text, canonical text, JSON and words of the same filter.

use std::collections::HashSet;
use std::fmt::Write;

use pulsestream_core::Filter;
use pulsestream_core::event::FieldPath;
use pulsestream_core::filter::Expr;

#[test]
fn each_form_of_a_filter() {
    let mut page = String::new();
    for text in [
        "true",
        "not true",
        "source.service = 'shop' and metrics.status_code >= 500 and not payload.plan in ['free'] and message contains 'timeout'",
        "severity >= 'error' AND Not user_id EXISTS",
        "title not in ['a', \"b\"] or payload.x not contains 'y' or error.code not exists",
        "(title = 'a' or title = 'b') and (title = 'c' or (title = 'd' and title = 'e'))",
        "((title = 'a') and ((title = 'b') and title = 'c'))",
        "not (title = 'a' or title = 'b') and not (title = 'c' and 'd')",
        "not not title != 'x'",
        "'it''s' or \"say \"\"hi\"\"\" or 'tab\\t \\u{1F600} \\\\ \\''",
        "payload.a-b.\"c d\".0 = -1.50 and metadata.\"x\\\"y\" in [1, 1.0, true, 'a', 'a']",
        "context.tags.region = 'eu' and metrics.cache_hit = TRUE and payload.n in []",
        "title < 'm' and title >= 'a' and not title > 'b' and payload.n < 1e3 and severity != 'info'",
        "title matches '^a' and title not matches 'b$' and title starts_with 'x' and title not ends_with 'y' and not 'z'",
        "\n title = 'a'\n\tor title='b'",
    ] {
        let filter = Filter::parse(text).unwrap();
        let json = serde_json::to_string(&filter).unwrap();
        writeln!(page, "{text}\n  = {filter}\n  = {json}\n  = {}\n", filter.explain()).unwrap();
        assert_eq!(filter.to_string().parse::<Filter>().unwrap(), filter);
        assert_eq!(serde_json::from_str::<Filter>(&json).unwrap(), filter);
    }
    insta::assert_snapshot!(page);
}

#[test]
fn a_json_string_is_the_text_form() {
    let from_text: Filter = serde_json::from_str(r#""severity = 'error'""#).unwrap();
    let from_tree: Filter =
        serde_json::from_str(r#"{"field": "severity", "op": "=", "value": "error"}"#).unwrap();
    assert_eq!(from_text, from_tree);
}

#[test]
#[allow(clippy::mutable_key_type, reason = "only the expression is hashed; the pattern caches are not")]
fn equal_filters_have_one_hash() {
    let texts =
        ["title = 'a' and title = 'b'", "(title='a') AND (title=\"b\")", "title = 'b' and title = 'a'"];
    let filters: HashSet<Filter> = texts.iter().map(|text| text.parse().unwrap()).collect();
    assert_eq!(filters.len(), 2, "the order of the parts is part of the expression");
}

#[test]
fn empty_groups_have_a_text() {
    assert_eq!(Filter::new(Expr::And(vec![])).unwrap(), Filter::all());
    assert_eq!(Filter::new(Expr::Or(vec![])).unwrap().to_string(), "not true");
    assert_eq!(
        Filter::new(Expr::Or(vec![Expr::Exists(FieldPath::Title)])).unwrap().to_string(),
        "exists(title)"
    );
    assert!(Filter::default().is_all());
}

#[test]
fn two_filters_join() {
    let join = |left: &str, right: &str| {
        let (left, right): (Filter, Filter) = (left.parse().unwrap(), right.parse().unwrap());
        left.and(&right).unwrap().to_string()
    };
    assert_eq!(join("title = 'a' or title = 'b'", "'c'"), "(title = 'a' or title = 'b') and 'c'");
    assert_eq!(join("true", "'c'"), "'c'");
    assert_eq!(join("'c'", "true"), "'c'");
}

#[test]
fn fields_are_visited() {
    let filter = Filter::parse("'x' or not payload.a in [1] and exists(error.code)").unwrap();
    let mut fields = Vec::new();
    filter.expr().for_each_field(&mut |field| fields.push(field.to_string()));
    assert_eq!(fields, ["title", "message", "payload.a", "error.code"]);
}

/// The cells of the table rows under a heading of the documentation, without their backticks.
fn documented_rows(heading: &str) -> Vec<Vec<String>> {
    let page = include_str!("../../../../docs/filter-language.md");
    let section = page.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.split(" | ").map(|cell| cell.trim_matches(['|', ' ', '`']).to_owned()).collect())
        .collect()
}

#[test]
fn documented_examples_are_filters() {
    let examples = documented_rows("Examples");
    assert!(examples.len() >= 5);
    for row in examples {
        if let Err(error) = Filter::parse(&row[0]) {
            panic!("{error}");
        }
    }
}

#[test]
fn documented_json_is_its_text() {
    let rows = documented_rows("The JSON form");
    let whole: Vec<_> = rows.iter().filter(|row| !row[0].contains("...")).collect();
    assert!(whole.len() >= 5);
    for row in whole {
        assert_eq!(serde_json::from_str::<Filter>(&row[0]).unwrap().to_string(), row[1]);
    }
}
