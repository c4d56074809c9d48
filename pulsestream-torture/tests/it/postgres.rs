//! Ends of PostgreSQL under load; the long run is `pulsestream-torture postgres --cycles 50`.

use std::process::Command;

use pulsestream_testtools::{POSTGRES, find_program};

#[test]
fn ends_of_postgres_lose_and_double_nothing() {
    if find_program(&POSTGRES).is_none() {
        return;
    }
    let output = Command::new(env!("CARGO_BIN_EXE_pulsestream-torture"))
        .args(["postgres", "--cycles", "6", "--seed", "7"])
        .output()
        .unwrap();
    let (told, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}\n{wrong}");
    assert!(told.contains("6 ends of the server"), "{told}");
}
