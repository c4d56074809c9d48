//! Starting children of this program, plain or under a tool, and hearing what they say.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use pulsestream_core::env::{Clock, SystemClock};
use pulsestream_core::{Error, ErrorKind, Result};

use crate::ledger::{Ledger, Line};

/// A child that takes longer than this hangs.
const DEADLINE: Duration = Duration::from_secs(60);
/// The exit code of a Rust program that panicked.
const PANICKED: i32 = 101;

pub(crate) fn failed(what: &'static str, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "torture", what).with_context("cause", &error).with_source(error)
}

/// A running child and what it has said.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    lines: JoinHandle<Vec<String>>,
    complaints: JoinHandle<String>,
    acknowledged: Receiver<()>,
}

/// Starts this program with `arguments`, under `tool` if it has words: its name and its arguments.
pub(crate) fn start(tool: &[String], subcommand: &str, folder: &Path, start: u64) -> Result<Running> {
    let program = std::env::current_exe().map_err(|error| failed("find the program", error))?;
    let mut command = match tool {
        [] => Command::new(program),
        [name, arguments @ ..] => {
            let mut command = Command::new(name);
            command.args(arguments).arg(program);
            command
        }
    };
    command.arg(subcommand).arg(folder).arg(start.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed("start the child", error))?;
    let pipe = || failed("read the child", std::io::ErrorKind::BrokenPipe.into());
    let output = child.stdout.take().ok_or_else(pipe)?;
    let mut errors = child.stderr.take().ok_or_else(pipe)?;
    let (first, acknowledged) = channel();
    let lines = std::thread::spawn(move || {
        let mut lines = Vec::new();
        for line in BufReader::new(output).lines().map_while(std::io::Result::ok) {
            if line.starts_with("acknowledged") {
                let _ = first.send(());
            }
            lines.push(line);
        }
        lines
    });
    let complaints = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = errors.read_to_string(&mut text);
        text
    });
    Ok(Running { child, lines, complaints, acknowledged })
}

impl Running {
    /// Waits until something was acknowledged, or the child has ended.
    pub(crate) fn wait_for_acknowledgement(&self) {
        // An error says that the child ended; the check will tell why.
        let _ = self.acknowledged.recv();
    }

    /// Kills it with SIGKILL and writes down what it said.
    pub(crate) fn kill(mut self, ledger: &mut Ledger) -> Result<()> {
        self.child.kill().map_err(|error| failed("kill the child", error))?;
        self.child.wait().map_err(|error| failed("wait for the child", error))?;
        self.write_down(ledger);
        Ok(())
    }

    /// Waits for its end and writes down what it said.
    pub(crate) fn finish(self, ledger: &mut Ledger) -> Result<ExitStatus> {
        self.end(ledger).map(|(status, _)| status)
    }

    fn end(mut self, ledger: &mut Ledger) -> Result<(ExitStatus, String)> {
        let clock = SystemClock::new();
        let status = loop {
            match self.child.try_wait().map_err(|error| failed("wait for the child", error))? {
                Some(status) => break status,
                None if clock.monotonic() > DEADLINE => {
                    let _ = self.child.kill();
                    let _ = self.child.wait();
                    return Err(Error::new(ErrorKind::Timeout, "torture", "the child hangs"));
                }
                None => pause(Duration::from_millis(2)),
            }
        };
        let complaints = self.write_down(ledger);
        if status.code() == Some(PANICKED) {
            return Err(Error::new(ErrorKind::Internal, "torture", "the child panicked")
                .with_context("stderr", complaints));
        }
        Ok((status, complaints))
    }

    /// The same for a child that must come to its end without an error of its own.
    pub(crate) fn finish_well(self, ledger: &mut Ledger) -> Result<()> {
        let (status, complaints) = self.end(ledger)?;
        if status.success() && ledger.is_done {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Internal, "torture", "the child did not come to its end")
            .with_context("status", status)
            .with_context("stderr", complaints.trim()))
    }

    fn write_down(self, ledger: &mut Ledger) -> String {
        ledger.is_done = false;
        let lines = self.lines.join().unwrap_or_default();
        lines.iter().filter_map(|line| Line::read(line)).for_each(|line| ledger.note(line));
        self.complaints.join().unwrap_or_default()
    }
}

/// Lets time pass: what is waited for gives no sign.
#[allow(clippy::disallowed_methods, reason = "the moment must be one that nothing announces")]
pub(crate) fn pause(delay: Duration) {
    std::thread::sleep(delay);
}

/// Runs a tool to its end; what it prints becomes the error when it fails.
pub(crate) fn tool(words: &[&str]) -> Result<String> {
    let output = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed("start a tool", error).with_context("tool", words[0]))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::new(ErrorKind::Unavailable, "torture", "a tool failed")
        .with_context("command", words.join(" "))
        .with_context("stderr", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Says that a part was not run, because this machine cannot mount what it needs.
pub(crate) fn not_run(part: &str, reason: &Error) {
    println!("NOT RUN: {part}: {reason}");
}

/// The same for a part whose tool can be installed anywhere: where nothing may be passed over, that is an error.
pub(crate) fn without_tool(part: &str, reason: &Error) -> Result<()> {
    let is_ci = std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
    if is_ci {
        return Err(Error::new(ErrorKind::Unsupported, "torture", "a part needs a tool, and CI is set")
            .with_context("part", part)
            .with_context("reason", reason));
    }
    not_run(part, reason);
    Ok(())
}
