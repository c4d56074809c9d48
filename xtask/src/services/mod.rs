//! A real PostgreSQL and a real Redis for the tests: taken from the environment, found, or installed.
//!
//! A second copy of this program, the keeper, starts the servers in a process group of its own and stops them when
//! its standard input ends. That happens when the task is done, when it fails, at ctrl-c and at `kill -9` alike,
//! so there is one way to stop and it needs no signal handler.

mod install;
mod locate;
mod postgres;
mod redis;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use crate::command::{Result, capture, is_ci};

/// The task under which the keeper is started; not for people.
pub(crate) const KEEPER_TASK: &str = "keep-services";

const READY: &str = "ready";
const START_LIMIT: Duration = Duration::from_secs(60);
/// Another program can take a free port between our look and the server's bind.
const START_ATTEMPTS: usize = 3;

/// Servers that live as long as this value.
#[derive(Debug)]
pub(crate) struct Services {
    keeper: Child,
    /// Held open: its end is the order to stop.
    lifeline: Option<ChildStdin>,
    /// Variables for the tests, with the URLs of the servers that could be had.
    pub(crate) variables: Vec<(String, String)>,
}

impl Services {
    /// Starts what can be had; a missing server is an error when `CI` is set and a loud line otherwise.
    pub(crate) fn start() -> Result<Self> {
        let mut keeper = Command::new(std::env::current_exe()?)
            .arg(KEEPER_TASK)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let lifeline = keeper.stdin.take();
        let answers = keeper.stdout.take().ok_or("the keeper has no output")?;
        let mut services = Self { keeper, lifeline, variables: Vec::new() };
        for line in BufReader::new(answers).lines() {
            let line = line?;
            match line.split_once('=') {
                Some((name, url)) => services.variables.push((name.to_owned(), url.to_owned())),
                None if line == READY => return Ok(services),
                None => return Err(format!("the keeper of the servers said `{line}`").into()),
            }
        }
        Err("the servers did not start, see above".into())
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        if let Err(error) = self.keeper.wait() {
            say(&format!("cannot wait for the keeper of the servers: {error}"));
        }
    }
}

/// `cargo xtask services`.
pub(crate) fn stay() -> Result<()> {
    let mut services = Services::start()?;
    for (name, url) in &services.variables {
        println!("export {name}='{url}'");
    }
    say("servers are up; ctrl-c stops them");
    // Ctrl-c ends this process; the keeper notices and stops the servers.
    let status = services.keeper.wait()?;
    Err(format!("the keeper of the servers ended with {status}").into())
}

/// The keeper: starts the servers, prints `NAME=URL` lines and `ready`, and stops all when its input ends.
pub(crate) fn keep() -> Result<()> {
    let folder = Folder::create()?;
    let _postgres = obtain(&postgres::SERVER, &folder)?;
    let _redis = obtain(&redis::SERVER, &folder)?;
    obtain_program(&PGBOUNCER, &folder)?;
    if announce(READY) {
        // Nobody writes: the call returns when the other side is gone.
        let _ = std::io::stdin().read(&mut [0; 1]);
    }
    Ok(())
}

/// A program that tests start themselves, before a server.
struct Tool {
    label: &'static str,
    package: &'static str,
    programs: locate::Programs,
}

const PGBOUNCER: Tool = Tool {
    label: "pgbouncer",
    package: "pgbouncer",
    programs: locate::Programs {
        servers: &["pgbouncer"],
        companions: &[],
        version_after: "PgBouncer ",
        oldest_major: 1,
        folders: || vec![PathBuf::from("/usr/sbin")],
    },
};

/// A kind of server.
struct Server {
    label: &'static str,
    variable: &'static str,
    package: &'static str,
    programs: locate::Programs,
    start: fn(&Path, &Folder) -> Result<Started>,
}

/// A started server; dropping it stops it.
trait Running {}

/// A started server and its URL.
type Started = (Box<dyn Running>, String);

fn obtain(server: &Server, folder: &Folder) -> Result<Option<Box<dyn Running>>> {
    if let Some(url) = std::env::var(server.variable).ok().filter(|url| !url.is_empty()) {
        announce(&format!("{}={url}", server.variable));
        return Ok(None);
    }
    match start(server, folder) {
        Ok((running, url)) => {
            announce(&format!("{}={url}", server.variable));
            Ok(Some(running))
        }
        Err(error) if is_ci() => Err(format!("{} is needed: {error}", server.label).into()),
        Err(error) => {
            say(&format!(
                "!!! NO {}: its tests will be SKIPPED. Set {} or install {}. {error}",
                server.label, server.variable, server.package
            ));
            Ok(None)
        }
    }
}

/// Finds or installs a program; without it an error when `CI` is set and a loud line otherwise.
fn obtain_program(tool: &Tool, folder: &Folder) -> Result<()> {
    match find_or_install(&tool.programs, tool.package, folder) {
        Ok(_) => Ok(()),
        Err(error) if is_ci() => Err(format!("{} is needed: {error}", tool.label).into()),
        Err(error) => {
            say(&format!(
                "!!! NO {}: its tests will be SKIPPED. Install {}. {error}",
                tool.label, tool.package
            ));
            Ok(())
        }
    }
}

fn find_or_install(programs: &locate::Programs, package: &str, folder: &Folder) -> Result<PathBuf> {
    programs.find().or_else(|missing| {
        install::install(package, folder.is_root()).map_err(|error| format!("{missing}; {error}"))?;
        programs.find()
    })
}

fn start(server: &Server, folder: &Folder) -> Result<Started> {
    let programs = find_or_install(&server.programs, server.package, folder)?;
    let mut attempt = 1;
    loop {
        match (server.start)(&programs, folder) {
            Err(error) if attempt < START_ATTEMPTS => {
                say(&format!("{} did not start: {error}", server.label))
            }
            outcome => return outcome,
        }
        attempt += 1;
    }
}

/// Installs a Debian package that tests need.
pub(crate) fn install(package: &str) -> Result<()> {
    let user = capture(Command::new("id").arg("-u"))?;
    install::install(package, user.trim() == "0")
}

/// A temporary folder, removed with all it holds.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn create() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("pulsestream-services-{}", std::process::id()));
        std::fs::create_dir(&path).map_err(|error| format!("cannot create {}: {error}", path.display()))?;
        let folder = Self { path };
        // PostgreSQL runs as another user when this one is root and has to reach its own folder inside.
        std::fs::set_permissions(&folder.path, std::fs::Permissions::from_mode(0o711))?;
        Ok(folder)
    }

    /// A new, empty folder inside.
    fn fresh(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        if path.exists() {
            std::fs::remove_dir_all(&path)?;
        }
        std::fs::create_dir(&path)?;
        Ok(path)
    }

    fn is_root(&self) -> bool {
        // What this process creates belongs to its user.
        std::fs::metadata(&self.path).is_ok_and(|metadata| metadata.uid() == 0)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            say(&format!("cannot remove {}: {error}", self.path.display()));
        }
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Waits until the server answers; gives the end of its log when it does not.
fn wait_until_ready(server: &mut Child, log: &Path, is_ready: impl Fn() -> bool) -> Result<()> {
    let started = Instant::now();
    let problem = loop {
        if is_ready() {
            return Ok(());
        }
        if let Some(status) = server.try_wait()? {
            break format!("ended with {status}");
        }
        if started.elapsed() > START_LIMIT {
            break format!("was not ready after {} s", START_LIMIT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    Err(format!("{problem}\n{}", lines[lines.len().saturating_sub(15)..].join("\n")).into())
}

/// Prints a line of the keeper's answer; false when nobody listens any more.
fn announce(line: &str) -> bool {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}").and_then(|()| output.flush()).is_ok()
}

/// Prints to the terminal; the keeper must stop its servers even when the terminal is gone.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
