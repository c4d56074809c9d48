//! Kills during firing and delivery; the long runs are `pulsestream-torture alerting --cycles 500`, and `--store postgres --cycles 200`.

use std::process::Command;

use pulsestream_testtools::{POSTGRES, find_program};

fn run(arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_pulsestream-torture"))
        .args(["alerting", "--cycles", "10", "--seed", "7"])
        .args(arguments)
        .output()
        .unwrap();
    let (told, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}\n{wrong}");
    assert!(told.contains("10 kills"), "{told}");
}

#[test]
fn kills_lose_and_double_no_alert_and_no_notification() {
    run(&[]);
}

#[test]
fn kills_over_postgres_lose_and_double_nothing() {
    if find_program(&POSTGRES).is_some() {
        run(&["--store", "postgres"]);
    }
}
