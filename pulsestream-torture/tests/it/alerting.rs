//! Kills during firing and delivery; the long run is `pulsestream-torture alerting --cycles 500`.

use std::process::Command;

#[test]
fn kills_lose_and_double_no_alert_and_no_notification() {
    let output = Command::new(env!("CARGO_BIN_EXE_pulsestream-torture"))
        .args(["alerting", "--cycles", "8", "--seed", "7"])
        .output()
        .unwrap();
    let (told, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}\n{wrong}");
    assert!(told.contains("8 kills"), "{told}");
}
