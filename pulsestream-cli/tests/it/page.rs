//! What the page about the API shows, done as a reader does it.

use std::process::Command;

use crate::program::{path, succeed};
use crate::server::Server;

#[test]
fn the_lines_of_the_page_work() {
    if Command::new("curl").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "curl is not installed");
        eprintln!("SKIPPED: curl is not installed");
        return;
    }
    let page = include_str!("../../../docs/http-v2.md");
    let lines = page.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("store");
    let created = ["--tenant", "shop", "--email", "owner@example.com"];
    let printed = succeed(&[&["admin", "create", "--store", path(&folder)][..], &created].concat());
    let key = printed.split_whitespace().find(|word| word.starts_with("ps_live_")).unwrap();
    let server = Server::start(&folder, &[]);
    let done = Command::new("sh")
        .args(["-e", "-u", "-c", lines])
        .env("KEY", key)
        .env("URL", format!("http://{}", server.address()))
        .current_dir(place.path())
        .output()
        .unwrap();
    let answers = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{answers}{}", String::from_utf8_lossy(&done.stderr));
    let answers: Vec<serde_json::Value> = answers
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers.len(), 6, "{answers:?}");
    assert_eq!(answers[0]["status"], "stored");
    assert_eq!(answers[1]["events"][0]["id"], "order-17");
    assert_eq!(answers[2]["payload"]["total"], 22.45);
    assert_eq!(answers[3]["rows"][0]["values"], serde_json::json!([1.0, 1.0, 22.45]));
    assert_eq!(answers[4]["channels"], serde_json::json!(["log"]));
    assert!(answers[5]["alerts"].is_array());
    assert!(std::fs::read(place.path().join("dashboard.pdf")).unwrap().starts_with(b"%PDF-"));
}
