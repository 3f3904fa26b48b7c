//! Somebody on the network without a key or a token.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use grid_tests::Grid;
use serde_json::Value;

use crate::raw::{self, exchange, read_reply, request};
use crate::rogue::hash;

/// Every address of the server that says or changes anything.
const ROUTES: &[(&str, &str)] = &[
    ("GET", "/v1/whoami"),
    ("GET", "/v1/jobs"),
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs/1"),
    ("GET", "/v1/jobs/1?after=0&wait_s=99999999"),
    ("GET", "/v1/jobs/1/details"),
    ("GET", "/v1/jobs/1/subjobs"),
    ("GET", "/v1/jobs/1/subjobs/0/files/stdout"),
    ("GET", "/v1/jobs/1/result"),
    ("GET", "/v1/jobs/1/result/all"),
    ("POST", "/v1/jobs/1/cancel"),
    ("POST", "/v1/blobs/missing"),
    ("GET", "/v1/clients"),
    ("POST", "/v1/clients/00000000000000000000000000000000/revoke"),
    ("GET", "/v1/tokens"),
    ("POST", "/v1/tokens"),
    ("DELETE", "/v1/tokens/1"),
    ("POST", "/v1/poll"),
    ("GET", "/"),
    ("GET", "/console/jobs/1"),
];

fn is_refusal(status: u16) -> bool {
    matches!(status, 401 | 403 | 404)
}

#[test]
fn nothing_is_said_to_a_stranger() {
    let grid = Grid::start(0);
    let blob = format!("/v1/blobs/{}?total=1&offset=0", hash(b"x"));
    let client_blob = format!("/v1/client/blobs/{}", hash(b"x"));
    let upload = format!("{client_blob}?total=1&offset=0&fence=1");
    let blobs = [("PUT", blob.as_str()), ("GET", &client_blob), ("PUT", &upload)];
    let guess = "A".repeat(32);
    let tokens =
        ["", "Bearer", "Bearer ", "Bearer x", "bearer AAAA", "Basic AAAA", &format!("Bearer {guess}")];
    for (method, path) in ROUTES.iter().copied().chain(blobs) {
        for token in tokens {
            let headers = [("authorization", token), ("content-type", "application/json")];
            let reply = request(&grid.url, method, path, &headers, b"{}");
            assert!(is_refusal(reply.status), "{method} {path} with '{token}': {reply:?}");
        }
    }
    assert_eq!(request(&grid.url, "GET", "/v1/health", &[], b"").status, 200);
}

#[test]
fn a_stranger_can_not_make_the_server_take_in_a_large_body() {
    let grid = Grid::start(0);
    let upload = format!("/v1/client/blobs/{}?total=1&offset=0&fence=1", hash(b"x"));
    for (method, path) in
        [("POST", "/v1/jobs"), ("POST", "/v1/poll"), ("POST", "/v1/clients"), ("PUT", &upload)]
    {
        // Only the head is sent: who waits for the body of it has no answer to give.
        let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 30000000\r\n\r\n");
        let reply = exchange(&grid.url, head.as_bytes()).expect("an answer before the body");
        assert!(matches!(reply.status, 400 | 401 | 413), "{method} {path}: {reply:?}");
    }
}

#[test]
fn a_request_can_not_be_read_in_two_ways() {
    let grid = Grid::start(0);
    let check = |text: &str, expect: &[u16]| {
        let reply = exchange(&grid.url, text.as_bytes());
        let status = reply.as_ref().map_or(0, |reply| reply.status);
        assert!(expect.contains(&status), "{text:?}: {reply:?}");
    };
    // No answer but a closed connection (0) is as good as a refusal.
    let refused: &[u16] = &[0, 400, 411, 413, 414, 431, 501, 505];
    let health = "/v1/health HTTP/1.1\r\nhost: x\r\n";
    check(&format!("GET {health}content-length: 3\r\ncontent-length: 4\r\n\r\nabcd"), refused);
    check(&format!("GET {health}content-length: -1\r\n\r\n"), refused);
    check(&format!("GET {health}content-length: 99999999999999999999999\r\n\r\n"), refused);
    check(&format!("POST {health}transfer-encoding: chunked, gzip\r\n\r\n"), refused);
    check(&format!("POST {health}transfer-encoding: xchunked\r\n\r\n"), refused);
    check("GET /v1/health HTTP/9.9\r\n\r\n", refused);
    check("GET /v1/health\r\n\r\n", refused);
    check("\0\0\0\0\r\n\r\n", refused);
    check(&format!("GET {health}{}\r\n", "a: b\r\n".repeat(10_000)), refused);
    check(&format!("GET {health}a: {}\r\n\r\n", "b".repeat(1 << 20)), refused);
    check(&format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(1 << 20)), refused);
    let json = "content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    check(&format!("POST /v1/jobs HTTP/1.1\r\nhost: x\r\n{json}ffffffffffffffffff\r\n"), &[0, 400, 401]);
    // The harmless twins.
    check(&format!("GET {health}\r\n"), &[200]);
    check("GET /v1/health HTTP/1.0\r\n\r\n", &[200]);
}

#[test]
fn what_follows_an_odd_request_is_not_smuggled_in() {
    let grid = Grid::start(0);
    let mut stream = raw::tls(&grid.url);
    let inner = "GET /v1/health HTTP/1.1\r\nhost: x\r\n\r\n";
    let outer = "POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    stream.write_all(format!("{outer}{inner}").as_bytes()).expect("sent");
    if let Some(first) = read_reply(&mut stream) {
        assert!(matches!(first.status, 400 | 401), "{first:?}");
        // Whoever answers the second must have closed the first: RFC 9112, 6.3.
        let second = read_reply(&mut stream);
        assert!(first.header("connection") != Some("close") || second.is_none(), "{second:?}");
    }
}

#[test]
fn addresses_and_methods_that_are_none() {
    let grid = Grid::start(0);
    for path in ["/..", "/v1/../etc/passwd", "/v1/jobs/%2e%2e", "/v1//jobs", "/%ff", "/v1/jobs/\u{fc}", "*"] {
        let text = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        let status = exchange(&grid.url, text.as_bytes()).map_or(400, |reply| reply.status);
        assert!(matches!(status, 400 | 401 | 404), "{path}: {status}");
    }
    for method in ["DELETE", "PATCH", "TRACE", "CONNECT", "OPTIONS", "BREW"] {
        let text = format!("{method} /v1/jobs HTTP/1.1\r\nhost: x\r\n\r\n");
        let status = exchange(&grid.url, text.as_bytes()).map_or(400, |reply| reply.status);
        assert!(matches!(status, 400 | 401 | 404 | 405), "{method}: {status}");
    }
}

/// A connection that was begun and is kept waiting: whether the server has ended it.
fn is_ended(stream: &mut impl std::io::Read) -> bool {
    let mut buffer = [0; 256];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => {
                return !matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                );
            }
        }
    }
}

#[test]
fn who_says_nothing_or_says_it_slowly_is_hung_up_on() {
    let grid = Grid::start(0);
    let begun = Instant::now();
    let silent: TcpStream = raw::tcp(&grid.url);
    let mut half_hello = raw::tcp(&grid.url);
    half_hello.write_all(&[0x16, 0x03, 0x01, 0x02]).expect("sent");
    let mut idle = raw::tls(&grid.url);
    idle.conn.complete_io(&mut idle.sock).expect("a handshake");
    let mut half_head = raw::tls(&grid.url);
    half_head.write_all(b"GET /v1/health HTTP/1.1\r\nx: ").and_then(|()| half_head.flush()).expect("sent");
    let mut half_body = raw::tls(&grid.url);
    let head = b"POST /v1/clients HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{";
    half_body.write_all(head).and_then(|()| half_body.flush()).expect("sent");
    // Meanwhile others are served.
    assert_eq!(request(&grid.url, "GET", "/v1/health", &[], b"").status, 200);
    let mut silent = silent;
    assert!(is_ended(&mut silent) && is_ended(&mut half_hello), "a handshake that never ends");
    assert!(is_ended(&mut idle), "a connection without a request");
    assert!(is_ended(&mut half_head), "a head that never ends");
    assert!(is_ended(&mut half_body), "a body that never ends");
    assert!(begun.elapsed() < Duration::from_secs(55), "each is ended by the server, not by our patience");
}

#[test]
fn a_crowd_of_silent_connections_keeps_nobody_out() {
    let grid = Grid::start(0);
    let crowd: Vec<TcpStream> = (0..500).map(|_| raw::tcp(&grid.url)).collect();
    assert_eq!(request(&grid.url, "GET", "/v1/health", &[], b"").status, 200);
    drop(crowd);
    assert_eq!(grid.cli(&["--json", "jobs"]).json(), Value::Array(Vec::new()));
}
