//! DuckDB through its Python wheel, because its crate compiles for twenty minutes.

use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::json;

use super::answers::Answer;
use super::questions::{Ask, Question};
use super::{SHARES, Times, ours};
use crate::Outcome;
use crate::rows::{Kind, Width};

/// What DuckDB answered, for all questions.
pub(super) struct Measured {
    pub(super) version: String,
    pub(super) results: Vec<Rival>,
}

pub(super) struct Rival {
    pub(super) answers: Vec<Answer>,
    pub(super) times: Times,
    /// The same question for one tenant with values read out of the JSON text.
    pub(super) extracted: Option<f64>,
}

#[derive(Deserialize)]
struct Printed {
    version: String,
    results: Vec<PrintedResult>,
}

#[derive(Deserialize)]
struct PrintedResult {
    answers: Vec<Answer>,
    one_tenant: f64,
    all_tenants: f64,
    extracted: Option<f64>,
}

/// Loads the events from the file in the folder and asks everything.
pub(super) fn measure(
    python: &str,
    folder: &Path,
    questions: &[Question],
    ids: &[Vec<String>],
) -> Outcome<Measured> {
    let types = Width::Fields.types(|kind| match kind {
        Kind::Text => "VARCHAR",
        Kind::Integer => "BIGINT",
        Kind::Real => "DOUBLE",
    });
    let questions: Vec<_> = questions
        .iter()
        .map(|question| {
            json!({
                "sql": question.sql,
                "extracting": question.extracting,
                "in_turn": question.in_turn,
                "by_id": matches!(question.ask, Ask::Get),
                "ids_only": matches!(question.ask, Ask::Get | Ask::Find(_)),
            })
        })
        .collect();
    let asked = json!({
        "types": types, "threads": ours::THREADS, "tenants": SHARES.len(), "ids": &ids[0][..ours::HOT_IDS.min(ids[0].len())], "questions": questions,
    });
    std::fs::write(folder.join("questions.json"), serde_json::to_vec(&asked)?)?;
    let output = Command::new(python)
        .args(["-c", include_str!("../duckdb_query.py")])
        .arg(folder)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("DuckDB did not answer".into());
    }
    let printed: Printed = serde_json::from_slice(&output.stdout)?;
    let results = printed.results.into_iter().map(|result| Rival {
        answers: result.answers,
        times: Times { one_tenant: result.one_tenant, all_tenants: result.all_tenants },
        extracted: result.extracted,
    });
    Ok(Measured { version: printed.version, results: results.collect() })
}
