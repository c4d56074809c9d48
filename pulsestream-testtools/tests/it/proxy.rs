//! Each fault, seen by a client of an echo server.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use pulsestream_testtools::{Direction, FaultProxy, eventually};

/// Answers every byte with the same byte, one thread for each connection, until the process ends.
fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            std::thread::spawn(move || {
                let mut connection = connection.unwrap();
                let mut bytes = [0; 4096];
                while let Ok(length @ 1..) = connection.read(&mut bytes) {
                    if connection.write_all(&bytes[..length]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn connect(proxy: &FaultProxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn read_exactly(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Whether nothing is there to read although the server has said `said` bytes.
fn is_silent(proxy: &FaultProxy, stream: &mut TcpStream, said: u64) -> bool {
    eventually("the server answers", || proxy.received_bytes(Direction::ToClient) == said);
    stream.set_nonblocking(true).unwrap();
    let outcome = stream.read(&mut [0; 16]);
    stream.set_nonblocking(false).unwrap();
    matches!(outcome, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn without_faults_it_forwards_both_ways_and_counts() {
    let proxy = FaultProxy::start(echo_server()).unwrap();
    let mut stream = connect(&proxy);
    let sent: Vec<u8> = (0..100_000_u32).map(|number| (number % 251) as u8).collect();
    let mut writer = stream.try_clone().unwrap();
    let to_send = sent.clone();
    let thread = std::thread::spawn(move || writer.write_all(&to_send).unwrap());
    assert_eq!(read_exactly(&mut stream, sent.len()), sent);
    thread.join().unwrap();
    assert_eq!(proxy.received_bytes(Direction::ToServer), 100_000);
    assert_eq!(proxy.received_bytes(Direction::ToClient), 100_000);
    assert_eq!((proxy.accepted(), proxy.open()), (1, 1));
    drop(stream);
    eventually("the connection ends", || proxy.open() == 0);
}

#[test]
fn the_end_of_one_direction_leaves_the_other_open() {
    let proxy = FaultProxy::start(echo_server()).unwrap();
    let mut stream = connect(&proxy);
    stream.write_all(b"last").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "last");
}

#[test]
fn latency_and_stall_hold_back_until_they_are_lifted() {
    let proxy = FaultProxy::start(echo_server()).unwrap();
    let mut stream = connect(&proxy);
    proxy.set_latency(Direction::ToClient, Duration::from_secs(3600));
    stream.write_all(b"one").unwrap();
    assert!(is_silent(&proxy, &mut stream, 3));
    proxy.heal();
    assert_eq!(read_exactly(&mut stream, 3), b"one");

    proxy.set_stalled(Direction::ToClient, true);
    stream.write_all(b"two").unwrap();
    assert!(is_silent(&proxy, &mut stream, 6));
    proxy.set_stalled(Direction::ToClient, false);
    assert_eq!(read_exactly(&mut stream, 3), b"two");
}

#[test]
fn bandwidth_and_slices_change_the_pace_and_not_the_bytes() {
    let proxy = FaultProxy::start(echo_server()).unwrap();
    let mut stream = connect(&proxy);
    proxy.set_slice(Direction::ToClient, NonZeroUsize::new(1));
    proxy.set_bandwidth(Direction::ToServer, NonZeroU64::new(1_000_000));
    stream.write_all(b"in very small pieces").unwrap();
    assert_eq!(read_exactly(&mut stream, 20), b"in very small pieces");
    // At one byte a second the first piece takes an hour.
    proxy.set_bandwidth(Direction::ToClient, NonZeroU64::new(1));
    proxy.set_slice(Direction::ToClient, NonZeroUsize::new(4096));
    stream.write_all(&[7; 4000]).unwrap();
    assert!(is_silent(&proxy, &mut stream, 4020));
}

#[test]
fn a_cut_lets_exactly_so_many_bytes_through_and_happens_once() {
    let proxy = FaultProxy::start(echo_server()).unwrap();
    for bytes in 0..5_u64 {
        proxy.cut_after_server_bytes(bytes);
        assert!(proxy.is_cut_pending());
        let mut stream = connect(&proxy);
        stream.write_all(b"abcde").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "abcde"[..bytes as usize]);
        assert!(!proxy.is_cut_pending());
    }
    let mut stream = connect(&proxy);
    stream.write_all(b"again").unwrap();
    assert_eq!(read_exactly(&mut stream, 5), b"again");
    // Exactly as many as there are: not cut before the next one.
    proxy.cut_after_server_bytes(5);
    stream.write_all(b"whole").unwrap();
    assert_eq!(read_exactly(&mut stream, 5), b"whole");
    assert!(proxy.is_cut_pending());
    stream.write_all(b"x").unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn a_swallowed_reply_leaves_the_connection_open_and_mute() {
    let proxy = FaultProxy::start(echo_server()).unwrap();
    let (mut first, mut second) = (connect(&proxy), connect(&proxy));
    proxy.swallow_reply();
    first.write_all(b"lost").unwrap();
    assert!(is_silent(&proxy, &mut first, 4));
    second.write_all(b"heard").unwrap();
    assert_eq!(read_exactly(&mut second, 5), b"heard");
    first.write_all(b"lost too").unwrap();
    assert!(is_silent(&proxy, &mut first, 17));
    assert_eq!(proxy.open(), 2);
}

#[test]
fn reset_hits_what_is_open_and_down_also_what_comes() {
    let proxy = FaultProxy::start(echo_server()).unwrap();
    let mut stream = connect(&proxy);
    stream.write_all(b"a").unwrap();
    read_exactly(&mut stream, 1);
    proxy.reset();
    assert_eq!(stream.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);

    let mut stream = connect(&proxy);
    stream.write_all(b"b").unwrap();
    assert_eq!(read_exactly(&mut stream, 1), b"b");
    proxy.set_down(true);
    assert_eq!(stream.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let mut refused = connect(&proxy);
    assert_eq!(refused.read(&mut [0; 1]).unwrap_or(0), 0);
    proxy.set_down(false);
    let mut stream = connect(&proxy);
    stream.write_all(b"c").unwrap();
    assert_eq!(read_exactly(&mut stream, 1), b"c");
}

#[test]
fn dropping_it_ends_its_connections() {
    let proxy = FaultProxy::start(echo_server()).unwrap();
    let mut stream = connect(&proxy);
    stream.write_all(b"a").unwrap();
    read_exactly(&mut stream, 1);
    let address = proxy.address();
    drop(proxy);
    assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
    assert!(TcpStream::connect(address).is_err());
}

#[tokio::test]
async fn it_starts_and_ends_within_a_runtime_and_serves_while_that_blocks() {
    let proxy = FaultProxy::start(echo_server()).unwrap();
    let mut stream = connect(&proxy);
    stream.write_all(b"a").unwrap();
    assert_eq!(read_exactly(&mut stream, 1), b"a");
    drop(proxy);
}
