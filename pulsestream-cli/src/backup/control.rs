//! How `pulsestream backup` asks the server that has the folder open: a socket inside the folder, one line of JSON per message.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pulsestream::{Backup, BackupProgress, PrimaryStore, PulseStream};
use pulsestream_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::OPERATION;

const SOCKET: &str = "control";
const MAX_REQUEST_BYTES: u64 = 64 << 10;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    /// Copy to this folder.
    Backup { target: PathBuf },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    Progress { copied_bytes: u64, total_bytes: u64 },
    Done { events: u64, bytes: u64 },
    Failed { message: String },
}

/// Answers requests while it lives. Only the user that runs the server may connect.
#[derive(Debug)]
pub(crate) struct Control {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Control {
    /// Starts to answer for a store in a folder; `None` for other stores. A folder where no socket can be made is served without.
    pub(crate) fn start(ps: &PulseStream) -> Option<Self> {
        let PrimaryStore::Folder(folder) = &ps.url().primary else { return None };
        let path = folder.join(SOCKET);
        match listen(&path) {
            Ok(listener) => Some(Self { path, task: tokio::spawn(serve(listener, ps.clone())) }),
            Err(error) => {
                tracing::warn!(%error, "`pulsestream backup` cannot reach this server");
                None
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

fn listen(path: &Path) -> std::io::Result<UnixListener> {
    // Whoever has the lock of the folder owns the socket: what is there belongs to a process that ended.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn serve(listener: UnixListener, ps: PulseStream) {
    // One after the other: two copies at once only slow each other down.
    while let Ok((stream, _)) = listener.accept().await {
        if let Err(error) = answer(stream, &ps).await {
            tracing::debug!(%error, "a backup was asked for by someone who went away");
        }
    }
}

async fn answer(stream: UnixStream, ps: &PulseStream) -> std::io::Result<()> {
    let (input, mut output) = stream.into_split();
    let mut line = String::new();
    BufReader::new(input.take(MAX_REQUEST_BYTES)).read_line(&mut line).await?;
    let Request::Backup { target } = match serde_json::from_str(&line) {
        Ok(request) => request,
        Err(error) => return send(&mut output, &Reply::Failed { message: error.to_string() }).await,
    };
    tracing::info!(target = %target.display(), "making a backup");
    let (steps, mut progress) = mpsc::channel(16);
    // A step is left out when the asker is slow to read.
    let tell = move |step: BackupProgress| {
        let _ = steps.try_send(step);
    };
    let copying = tokio::spawn({
        let ps = ps.clone();
        async move { ps.backup(target, tell).await }
    });
    while let Some(BackupProgress { copied_bytes, total_bytes }) = progress.recv().await {
        send(&mut output, &Reply::Progress { copied_bytes, total_bytes }).await?;
    }
    let reply = match copying.await {
        Ok(Ok(Backup { events, bytes })) => Reply::Done { events, bytes },
        Ok(Err(error)) => Reply::Failed { message: error.to_string() },
        Err(error) => Reply::Failed { message: error.to_string() },
    };
    send(&mut output, &reply).await
}

async fn send(output: &mut (impl AsyncWriteExt + Unpin), reply: &Reply) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    output.write_all(&line).await
}

/// Asks the process that has the folder open; `locked` is the answer when it does not listen.
pub(super) async fn ask(
    folder: &Path,
    target: &Path,
    mut show: impl FnMut(BackupProgress),
    locked: Error,
) -> Result<Backup> {
    let Ok(mut stream) = UnixStream::connect(folder.join(SOCKET)).await else { return Err(locked) };
    let lost = |error: std::io::Error| {
        Error::new(ErrorKind::Unavailable, OPERATION, "the server ended before the copy was made")
            .with_context("target", target.display())
            .with_source(error)
    };
    let request = serde_json::to_string(&Request::Backup { target: target.to_owned() }).map_err(|error| {
        Error::new(ErrorKind::Invalid, OPERATION, "the path of the target is no text").with_source(error)
    })?;
    stream.write_all(format!("{request}\n").as_bytes()).await.map_err(lost)?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await.map_err(lost)? {
        match serde_json::from_str(&line) {
            Ok(Reply::Progress { copied_bytes, total_bytes }) => {
                show(BackupProgress { copied_bytes, total_bytes });
            }
            Ok(Reply::Done { events, bytes }) => return Ok(Backup { events, bytes }),
            Ok(Reply::Failed { message }) => {
                return Err(Error::new(ErrorKind::Conflict, OPERATION, message));
            }
            Err(error) => {
                let message = "the server answers in words this version does not know";
                return Err(Error::new(ErrorKind::Unsupported, OPERATION, message).with_source(error));
            }
        }
    }
    Err(lost(std::io::ErrorKind::UnexpectedEof.into()))
}

#[cfg(test)]
mod tests {
    use pulsestream_core::event::Event;
    use pulsestream_core::id::{EventId, TenantId};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_server_makes_the_copy_that_another_process_asks_for() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("events");
        let ps = PulseStream::open(&folder.display().to_string()).await.unwrap();
        let event = Event::new(EventId::new("e1").unwrap(), "order", ps.env().now());
        ps.tenant(TenantId::from_name("shop")).ingest(event).await.unwrap();
        let locked = || Error::new(ErrorKind::StoreLocked, "test", "locked");
        let target = place.path().join("copy");
        let refused = ask(&folder, &target, |_| {}, locked()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::StoreLocked, "nobody listens");
        let control = Control::start(&ps).unwrap();
        let mode = std::fs::metadata(folder.join(SOCKET)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(ask(&folder, &target, |_| {}, locked()).await.unwrap().events, 1);
        let again = ask(&folder, &target, |_| {}, locked()).await.unwrap_err();
        assert!(again.to_string().contains("not empty"), "{again}");
        drop(control);
        assert!(!folder.join(SOCKET).exists());
        ps.close().await.unwrap();
        let copy = PulseStream::open(&target.display().to_string()).await.unwrap();
        assert_eq!(copy.event_store().check().await.unwrap().events, Some(1));
        copy.close().await.unwrap();
    }
}
