//! A server that answers what a test tells it to, for replies that a healthy Redis does not give.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const INFO: &str = "# Server\r\nredis_version:7.0.15\r\ncluster_enabled:0\r\n";

/// Speaks enough of RESP2 for a connection to be made, then answers from its script.
#[derive(Debug, Clone)]
pub(crate) struct ScriptedServer {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Given to the next command that is not part of a handshake, instead of `+OK`.
    next: Mutex<Option<String>>,
    info: Mutex<String>,
    connections: AtomicUsize,
    commands: Mutex<Vec<Vec<String>>>,
}

impl ScriptedServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = Arc::new(State { info: Mutex::new(INFO.to_owned()), ..State::default() });
        let server = Self { address: listener.local_addr().unwrap(), state: state.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let state = state.clone();
                state.connections.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || serve(stream.unwrap(), &state));
            }
        });
        server
    }

    /// Answers the next command with this line.
    pub(crate) fn answer_next(&self, line: &str) {
        *self.state.next.lock().unwrap() = Some(format!("{line}\r\n"));
    }

    /// Says this in reply to `INFO`.
    pub(crate) fn say_info(&self, info: &str) {
        *self.state.info.lock().unwrap() = info.to_owned();
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// The commands beyond handshakes so far.
    pub(crate) fn commands(&self) -> Vec<Vec<String>> {
        self.state.commands.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, state: &State) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some(command) = read_command(&mut reader) {
        let reply = match command[0].as_str() {
            "CLIENT" | "SELECT" => "+OK\r\n".to_owned(),
            "INFO" => {
                let info = state.info.lock().unwrap();
                format!("${}\r\n{info}\r\n", info.len())
            }
            "CLUSTER" => "$40\r\ncluster_slots_ok:16384\r\ncluster_size:3\r\n\r\n".to_owned(),
            "CONFIG" => {
                "*4\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n$11\r\nappendfsync\r\n$6\r\nalways\r\n".to_owned()
            }
            _ => {
                state.commands.lock().unwrap().push(command);
                state.next.lock().unwrap().take().unwrap_or_else(|| "+OK\r\n".to_owned())
            }
        };
        if writer.write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

/// An array of bulk strings.
fn read_command(reader: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let count = read_length(reader, '*')?;
    let mut read_text = || {
        let mut bytes = vec![0; read_length(reader, '$')? + "\r\n".len()];
        reader.read_exact(&mut bytes).ok()?;
        bytes.truncate(bytes.len() - "\r\n".len());
        String::from_utf8(bytes).ok()
    };
    (0..count).map(|_| read_text()).collect()
}

fn read_length(reader: &mut BufReader<TcpStream>, kind: char) -> Option<usize> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    line.trim_end().strip_prefix(kind)?.parse().ok()
}
