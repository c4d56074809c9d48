//! Installing a server on a machine that has none: Debian and its descendants.

use std::process::Command;

use crate::command::{Result, capture, is_ci};

/// The policy file (removed again) keeps the packages from starting servers of their own on the usual ports.
const SCRIPT: &str = r#"
set -e
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  trap 'exit 1' HUP INT TERM
  printf '#!/bin/sh\nexit 101\n' > "$policy"
  chmod 755 "$policy"
fi
apt-get -o Acquire::Retries=3 update
apt-get -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$1"
"#;

/// Installs with apt-get as root. A person's machine is changed only when that person works as root.
pub(super) fn install(package: &str, is_root: bool) -> Result<()> {
    if capture(Command::new("apt-get").arg("--version")).is_err() {
        return Err("this system has no apt-get".into());
    }
    let mut command = if is_root {
        Command::new("sh")
    } else if is_ci() {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "sh"]);
        sudo
    } else {
        return Err(format!("run `sudo apt-get install {package}`").into());
    };
    eprintln!("installing {package} with apt-get");
    capture(command.args(["-c", SCRIPT, "install", package])).map(drop)
}
