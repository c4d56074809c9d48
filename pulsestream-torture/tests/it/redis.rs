//! Kills of Redis and of nodes; the long run is `pulsestream-torture redis --cycles 50`.

use std::process::Command;

use pulsestream_testtools::{POSTGRES, REDIS, find_program};

#[test]
fn kills_of_redis_and_of_nodes_lose_and_double_nothing() {
    if find_program(&REDIS).is_none() || find_program(&POSTGRES).is_none() {
        return;
    }
    let output = Command::new(env!("CARGO_BIN_EXE_pulsestream-torture"))
        .args(["redis", "--cycles", "4", "--seed", "7"])
        .output()
        .unwrap();
    let (told, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}\n{wrong}");
    assert!(told.contains("4 kills of redis, 2 of nodes"), "{told}");
}
