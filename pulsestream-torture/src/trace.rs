//! Killing a child at every system call, failing every system call, and interrupting every system call, with strace.

use std::path::Path;

use pulsestream_core::{Error, ErrorKind, Result};

use crate::check::check;
use crate::ledger::Ledger;
use crate::process::{failed, start, tool, without_tool};

/// System calls before which the child is killed.
const KILLED: [&str; 9] =
    ["write", "pwrite64", "fdatasync", "fsync", "rename", "unlink", "openat", "ftruncate", "mkdir"];
/// System calls that fail.
const FAILED: [&str; 8] =
    ["write", "pwrite64", "fsync", "fdatasync", "rename", "openat", "ftruncate", "fallocate"];

/// System calls that a signal may interrupt. Those that the loader of the program makes too, and does not repeat, are left out.
const INTERRUPTED: [&str; 3] = ["write", "pwrite64", "fdatasync"];

/// What happens to a system call.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    Fail {
        error: &'static str,
        is_persistent: bool,
    },
    /// A signal interrupts it before it does anything.
    Interrupt,
}

impl Fault {
    /// Spells it for strace, for the call with number `nth` and, if it is persistent, all after it.
    fn injection(self, call: &str, nth: u64) -> String {
        match self {
            Self::Kill => format!("inject={call}:signal=KILL:when={nth}"),
            Self::Fail { error, is_persistent } => {
                let and_after = if is_persistent { "+" } else { "" };
                format!("inject={call}:error={error}:when={nth}{and_after}")
            }
            Self::Interrupt => format!("inject={call}:error=EINTR:when={nth}"),
        }
    }
}

/// Kills a child before its first, second, ... system call of each kind until a run is untouched, every `stride`-th of them.
pub(crate) fn kills(stride: u64) -> Result<()> {
    each("kill at every system call", stride, &KILLED, &[Fault::Kill])
}

/// Fails the first, second, ... system call of each kind, once and from then on, with EIO and ENOSPC. Then interrupts each of them
/// once, which must change nothing.
pub(crate) fn failures(stride: u64) -> Result<()> {
    let mut faults = Vec::new();
    for error in ["EIO", "ENOSPC"] {
        for is_persistent in [false, true] {
            faults.push(Fault::Fail { error, is_persistent });
        }
    }
    each("fail every system call", stride, &FAILED, &faults)?;
    each("interrupt every system call", stride, &INTERRUPTED, &[Fault::Interrupt])
}

fn each(part: &'static str, stride: u64, calls: &[&str], faults: &[Fault]) -> Result<()> {
    if let Err(reason) = tool(&["strace", "-f", "-o", "/dev/null", "true"]) {
        return without_tool(part, &reason);
    }
    let mut runs = 0;
    for call in calls {
        let before = runs;
        for fault in faults {
            for nth in (1..).step_by(usize::try_from(stride).unwrap_or(1).max(1)) {
                runs += 1;
                let injection = fault.injection(call, nth);
                let is_untouched = live(&injection, call, *fault)
                    .map_err(|error| error.with_context("injection", &injection))?;
                if is_untouched {
                    break;
                }
            }
        }
        println!("{part}: {call}: {} runs", runs - before);
    }
    Ok(())
}

/// Lets one child live under the tracer and checks what it left; returns whether the tracer never interfered.
fn live(injection: &str, call: &str, fault: Fault) -> Result<bool> {
    let place = tempfile::tempdir().map_err(|error| failed("make a folder", error))?;
    let folder = place.path().join("store");
    let log = place.path().join("trace");
    let mut ledger = Ledger::default();
    // Without --seccomp-bpf, under which strace 6.1 counts wrongly.
    let words = ["strace", "-f", "-qq", "-o"];
    let mut tracer: Vec<String> = words.map(str::to_owned).to_vec();
    tracer.push(log.display().to_string());
    tracer.extend(["-e".to_owned(), format!("trace={call}"), "-e".to_owned(), injection.to_owned()]);
    let status = start(&tracer, "script", &folder, 0)?.finish(&mut ledger)?;
    let is_untouched = match fault {
        Fault::Kill => status.success(),
        Fault::Fail { .. } | Fault::Interrupt => !was_injected(&log)?,
    };
    // Nobody hears of an interruption.
    let must_succeed = is_untouched || matches!(fault, Fault::Interrupt);
    if must_succeed && !(ledger.is_done && ledger.failures.is_empty()) {
        return Err(Error::new(
            ErrorKind::Internal,
            "torture.trace",
            "a child failed that nothing was refused",
        )
        .with_context("failures", ledger.failures.join(" ")));
    }
    check(&folder, &mut ledger)?;
    Ok(is_untouched)
}

fn was_injected(log: &Path) -> Result<bool> {
    use std::io::{BufRead, BufReader};

    let file = std::fs::File::open(log).map_err(|error| failed("read the trace", error))?;
    Ok(BufReader::new(file).lines().map_while(std::io::Result::ok).any(|line| line.contains("(INJECTED)")))
}
