//! The overview as a file.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use pulsestream_core::{Error, ErrorKind};
use serde_json::Value;

use super::overview::{KEPT, overview};
use super::{csv, pdf};
use crate::access::Caller;
use crate::aged;
use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::input::Params;

pub(super) async fn get(State(app): State<App>, caller: Caller, params: Params) -> Answer<Response> {
    let format = params.text("format")?;
    if !matches!(format, "json" | "csv" | "pdf") {
        return Err(Failure::not_found(
            "dashboard.export",
            "there is no such format; there are json, csv and pdf",
        ));
    }
    let overview = aged::kept(&app, caller.tenant(), KEPT, overview(&app, caller.tenant())).await?;
    let tree: Value = serde_json::from_str(&overview.text).map_err(|error| {
        Error::new(ErrorKind::Internal, "dashboard.export", "the overview cannot be read").with_source(error)
    })?;
    let (media_type, name, body) = match format {
        "json" => ("application/json", "dashboard.json", tree.to_string().into_bytes()),
        "csv" => {
            let mut rows = vec![vec!["name".to_owned(), "value".to_owned()]];
            rows.extend(leaves(&tree).into_iter().map(|(name, value)| vec![name, value]));
            ("text/csv; charset=utf-8; header=present", "dashboard.csv", csv::write(&rows).into_bytes())
        }
        _ => {
            let at = tree["last_updated"].as_str().unwrap_or_default();
            let title = format!("Dashboard of {} at {at}", caller.tenant());
            let mut lines = vec![title.clone(), String::new()];
            lines.extend(leaves(&tree).into_iter().map(|(name, value)| format!("{name:<58} {value}")));
            ("application/pdf", "dashboard.pdf", pdf::write(&title, &lines))
        }
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    overview.state(headers);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

/// Returns the leaves of a tree with their dotted paths.
fn leaves(tree: &Value) -> Vec<(String, String)> {
    fn visit(path: &str, value: &Value, into: &mut Vec<(String, String)>) {
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match value {
            Value::Object(members) => {
                members.iter().for_each(|(name, value)| visit(&below(name), value, into))
            }
            Value::Array(values) => {
                for (index, value) in values.iter().enumerate() {
                    visit(&below(&index.to_string()), value, into);
                }
            }
            Value::String(text) => into.push((path.to_owned(), text.clone())),
            Value::Null => into.push((path.to_owned(), String::new())),
            other => into.push((path.to_owned(), other.to_string())),
        }
    }
    let mut all = Vec::new();
    visit("", tree, &mut all);
    all
}
