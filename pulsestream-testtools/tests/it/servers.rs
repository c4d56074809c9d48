//! Servers that are killed and come back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use pulsestream_testtools::{POSTGRES, PostgresServer, REDIS, RedisServer, StopMode, find_program};

fn ask_redis(address: SocketAddr, command: &str, expected: &str) {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.write_all(command.as_bytes()).unwrap();
    let mut answer = vec![0; expected.len()];
    connection.read_exact(&mut answer).unwrap();
    assert_eq!(String::from_utf8(answer).unwrap(), expected);
}

#[test]
fn a_killed_redis_has_what_it_had() {
    let Some(program) = find_program(&REDIS) else { return };
    let mut server = RedisServer::start(&program, &["--maxmemory", "64mb"]).unwrap();
    let address = server.address();
    ask_redis(address, "SET key value\r\n", "+OK\r\n");
    server.kill().unwrap();
    assert!(TcpStream::connect(address).is_err());
    server.restart().unwrap();
    assert_eq!(server.address(), address);
    ask_redis(address, "GET key\r\n", "$5\r\nvalue\r\n");
    ask_redis(address, "CONFIG GET maxmemory\r\n", "*2\r\n$9\r\nmaxmemory\r\n$8\r\n67108864\r\n");
    server.stop().unwrap();
    assert!(TcpStream::connect(address).is_err());
    let folder = server.folder().to_path_buf();
    drop(server);
    assert!(!folder.exists());
}

#[test]
fn a_redis_that_does_not_start_says_why() {
    let Some(program) = find_program(&REDIS) else { return };
    let error = RedisServer::start(&program, &["--maxmemory-policy", "nonsense"]).unwrap_err();
    assert!(error.to_string().contains("ended with"), "{error}");
}

/// The server asks for a password or says that it needs none: it speaks.
fn postgres_speaks(address: SocketAddr) -> bool {
    let Ok(mut connection) = TcpStream::connect(address) else { return false };
    // Length, protocol 3.0, then the user, as the protocol's StartupMessage says.
    connection.write_all(b"\0\0\0\x17\0\x03\0\0user\0postgres\0\0").unwrap();
    let mut kind = [0];
    connection.read_exact(&mut kind).is_ok() && kind == *b"R"
}

#[test]
fn a_postgres_survives_every_kind_of_end() {
    let Some(program) = find_program(&POSTGRES) else { return };
    let mut server = PostgresServer::start(&program, &["max_connections=20"]).unwrap();
    let address = server.address();
    assert!(postgres_speaks(address));
    for _ in 0..3 {
        let _session = TcpStream::connect(address).unwrap();
        server.kill().unwrap();
        server.restart().unwrap();
        assert!(postgres_speaks(address));
    }
    for mode in [StopMode::Fast, StopMode::Immediate, StopMode::Smart] {
        server.stop(mode).unwrap();
        assert!(!postgres_speaks(address));
        server.restart().unwrap();
        assert!(postgres_speaks(address));
    }
    let folder = server.folder().to_path_buf();
    drop(server);
    assert!(!folder.exists());
}
