//! Programs that reach the endpoints that their job names, and no others.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use model::{ByteSize, NetworkAccess};
use sandbox::{Ended, Nearby, SandboxError, Spec};
use tempfile::TempDir;

use crate::harness::{Bench, Outcome, skip};

const ENETUNREACH: i32 = 101;
const ECONNREFUSED: i32 = 111;
const EHOSTUNREACH: i32 = 113;
const EAFNOSUPPORT: i32 = 97;

/// Where the tests find the compiled program when there is one already.
pub const NETWORK_VARIABLE: &str = "SANDBOX_TEST_NETWORK";

/// The program of these tests, compiled once; nothing when that can't be done here.
pub fn compile_network(to: &Path) -> Option<()> {
    static MADE: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        if let Some(program) = std::env::var_os(NETWORK_VARIABLE) {
            return fs::read(program).ok();
        }
        let directory = TempDir::new().unwrap();
        let program = directory.path().join("net");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/network.c");
        let made =
            Command::new("cc").args(["-w", "-static", "-pthread", source, "-o"]).arg(&program).output();
        made.is_ok_and(|made| made.status.success()).then(|| fs::read(program).unwrap())
    });
    fs::write(to, made.as_ref()?).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
    Some(())
}

/// A bench with the program of these tests.
fn bench() -> Option<Bench> {
    let bench = Bench::new()?;
    if compile_network(&bench.tree().join("usr/bin/net")).is_none() {
        skip("no C compiler that links statically");
        return None;
    }
    Some(bench)
}

fn spec(bench: &mut Bench, allow: &[&str], rate: Option<u64>, args: &[&str]) -> Spec {
    let mut spec = bench.spec(args);
    spec.program = "/bin/net".into();
    spec.executables.push("/usr/bin/net".into());
    let allow = allow.iter().map(|endpoint| endpoint.parse().unwrap()).collect();
    spec.network = NetworkAccess { allow, rate: rate.map(ByteSize) };
    spec
}

fn run(bench: &mut Bench, allow: &[&str], args: &[&str]) -> Outcome {
    let spec = spec(bench, allow, None, args);
    bench.run(&spec)
}

/// A listener on this machine, with a thread that serves one connection after the other until it is dropped.
struct Server {
    at: SocketAddr,
    stopped: Arc<AtomicBool>,
    served: Option<JoinHandle<Vec<io::Result<()>>>>,
}

impl Server {
    fn new(address: &str, serve: impl Fn(TcpStream) -> io::Result<()> + Send + 'static) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        let served = thread::spawn(move || {
            let accepted = listener.incoming().map(Result::unwrap);
            accepted.take_while(|_| !stop.load(Ordering::SeqCst)).map(serve).collect()
        });
        Server { at, stopped, served: Some(served) }
    }

    /// Sends back all that it gets, once it has all.
    fn echo(address: &str) -> Self {
        Server::new(address, |mut stream| {
            let mut text = Vec::new();
            stream.read_to_end(&mut text)?;
            stream.write_all(&text)
        })
    }

    fn endpoint(&self) -> String {
        self.at.to_string()
    }

    fn host(&self) -> String {
        self.at.ip().to_string()
    }

    fn port(&self) -> String {
        self.at.port().to_string()
    }

    /// How each connection was served.
    fn ends(mut self) -> Vec<io::Result<()>> {
        self.stop()
    }

    fn stop(&mut self) -> Vec<io::Result<()>> {
        let Some(served) = self.served.take() else { return Vec::new() };
        self.stopped.store(true, Ordering::SeqCst);
        // It looks when somebody comes.
        TcpStream::connect(self.at).unwrap();
        served.join().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.stop();
        }
    }
}

/// A port on which nobody listens: one that was just free.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn an_endpoint_that_the_job_names_is_reached() {
    let Some(mut bench) = bench() else { return };
    let mut servers = vec![Server::echo("127.0.0.1")];
    match TcpListener::bind("[::1]:0") {
        Ok(_) => servers.push(Server::echo("::1")),
        Err(e) => skip(&format!("IPv6: {e}")),
    }
    for server in &servers {
        let (endpoint, host, port) = (server.endpoint(), server.host(), server.port());
        for act in ["get", "epoll"] {
            let outcome = run(&mut bench, &[&endpoint], &[act, &host, &port, "hello\n"]);
            let network = outcome.exit.network.clone();
            assert_eq!(outcome.ok(), "hello\n", "{act} {endpoint}");
            assert_eq!((network.sent, network.received, network.unreached.len()), (6, 6, 0));
        }
    }
    let four = &servers[0];
    let mapped = format!("::ffff:{}", four.host());
    let outcome = run(&mut bench, &[&four.endpoint()], &["get", &mapped, &four.port(), "mapped\n"]);
    assert_eq!(outcome.ok(), "mapped\n");
    let outcome = run(&mut bench, &[&four.endpoint()], &["look", &four.host(), &four.port()]);
    let expect = format!("{} {} 1 reno\n", four.host(), four.port());
    assert_eq!(outcome.ok(), expect);
}

#[test]
fn all_others_are_refused() {
    let Some(mut bench) = bench() else { return };
    let (open, closed) = (Server::echo("127.0.0.1"), Server::echo("127.0.0.1"));
    let allow = open.endpoint();
    for (host, port, expect) in [
        // Its own loopback, where nobody listens.
        ("127.0.0.1", closed.port(), ECONNREFUSED),
        ("::ffff:127.0.0.1", closed.port(), ECONNREFUSED),
        ("127.0.0.2", open.port(), ECONNREFUSED),
        ("::1", open.port(), ECONNREFUSED),
        ("10.2.0.5", open.port(), ENETUNREACH),
        ("::ffff:10.2.0.5", open.port(), ENETUNREACH),
        ("2001:db8::7", open.port(), ENETUNREACH),
        ("169.254.169.254", "80".to_owned(), ENETUNREACH),
        ("198.18.0.1", open.port(), ENETUNREACH),
    ] {
        let outcome = run(&mut bench, &[&allow], &["connect", host, &port]);
        let found = (outcome.exit.ended.clone(), outcome.stdout.clone());
        assert_eq!(found, (Ended::Code(1), format!("connect {expect}\n")), "{host} {port}");
        assert_eq!(outcome.exit.network, sandbox::NetworkUse::default());
    }
    assert!(closed.ends().is_empty());
    assert!(open.ends().is_empty());
}

#[test]
fn no_other_way_leads_out() {
    let Some(mut bench) = bench() else { return };
    let (open, closed) = (Server::echo("127.0.0.1"), Server::echo("127.0.0.1"));
    let datagrams = UdpSocket::bind(closed.at).unwrap();
    datagrams.set_nonblocking(true).unwrap();
    let outcome = run(&mut bench, &[&open.endpoint()], &["ways", &closed.host(), &closed.port()]);
    let found: Vec<(&str, i32)> = outcome
        .stdout
        .lines()
        .filter_map(|line| line.split_once(' ').map(|(name, errno)| (name, errno.parse().unwrap())))
        .collect();
    assert_eq!(found.len(), 7, "{outcome:?}");
    for (name, errno) in found {
        match name {
            // A datagram goes into its own loopback, where nobody takes it.
            "udp" => assert_eq!(errno, 0),
            "packet" | "netlink" => assert_eq!(errno, EAFNOSUPPORT, "{name}"),
            _ => assert_ne!(errno, 0, "{name}"),
        }
    }
    assert_eq!(datagrams.recv(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert!(closed.ends().is_empty());
}

#[test]
fn changing_the_address_behind_a_check() {
    let Some(mut bench) = bench() else { return };
    let (open, closed) = (Server::new("127.0.0.1", |_| Ok(())), Server::echo("127.0.0.1"));
    let args = ["race", "127.0.0.1", &open.port(), &closed.port(), "1000"];
    let outcome = run(&mut bench, &[&open.endpoint()], &args);
    assert_eq!(outcome.ok(), "raced\n");
    assert!(closed.ends().is_empty());
}

#[test]
fn nobody_outside_reaches_the_program() {
    let Some(mut bench) = bench() else { return };
    let open = Server::echo("127.0.0.1");
    let port = free_port();
    let spec = spec(&mut bench, &[&open.endpoint()], None, &["serve", &port.to_string()]);
    let running = bench.start(&spec);
    let sandbox::Output::File(stdout) = &spec.stdout else { panic!("the bench writes files") };
    crate::harness::eventually(Duration::from_secs(60), "it listens", || {
        fs::read_to_string(stdout).is_ok_and(|text| text.contains("listening"))
    });
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    let outcome = crate::harness::outcome(running.wait(), &spec);
    assert_eq!(outcome.ok(), "listening\n0\n");
}

#[test]
fn the_program_holds_nothing_of_it() {
    let Some(mut bench) = bench() else { return };
    let open = Server::echo("127.0.0.1");
    let allow = [open.endpoint()];
    let mut spec = bench.spec(&["files"]);
    spec.network.allow = allow.iter().map(|endpoint| endpoint.parse().unwrap()).collect();
    assert_eq!(bench.run(&spec).ok(), "0 1 2 \n");
    let mut spec = bench.spec(&["list", "/proc"]);
    spec.network.allow = allow.iter().map(|endpoint| endpoint.parse().unwrap()).collect();
    let listing = bench.run(&spec).ok();
    assert_eq!(listing.lines().filter(|name| name.parse::<u32>().is_ok()).count(), 1, "{listing}");
}

/// A name of this machine that is no `localhost`, with an address that the machine can be named by.
fn name_of_this_machine() -> Option<(String, std::net::IpAddr)> {
    let own = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    [own.trim(), "ip6-localhost", "ip6-loopback"].into_iter().find_map(|name| {
        let found = (name, 0).to_socket_addrs().ok()?.next()?.ip();
        let is_plain = format!("{name}:1").parse::<model::Endpoint>().is_ok() && name != "localhost";
        (is_plain && TcpListener::bind((found, 0)).is_ok()).then(|| (name.to_owned(), found))
    })
}

#[test]
fn a_name_that_the_job_names_is_reached_and_no_other_is_known() {
    let Some(mut bench) = bench() else { return };
    let Some((name, address)) = name_of_this_machine() else {
        return skip("no name of this machine in its own files or DNS");
    };
    let server = Server::echo(&address.to_string());
    let named = format!("{name}:{}", server.port());
    // It leads to this machine, so that the address has to be named too.
    let allow = [named.as_str(), &server.endpoint()];
    let outcome = run(&mut bench, &allow, &["get", &name, &server.port(), "hello\n"]);
    assert_eq!(outcome.ok(), "hello\n");
    let outcome = run(&mut bench, &allow[..1], &["get", &name, &server.port(), "hello\n"]);
    assert_eq!(outcome.exit.ended, Ended::Code(1));
    let [unreached] = outcome.exit.network.unreached.as_slice() else { panic!("{outcome:?}") };
    assert!(unreached.endpoint == named && unreached.why.contains("this machine"), "{unreached:?}");
    let outcome = run(&mut bench, &allow, &["connect", "other.example", &server.port()]);
    assert_eq!(outcome.exit.ended, Ended::Code(2), "{outcome:?}");
    assert_eq!(server.ends().len(), 1);
}

/// The broker of the bench's only subjob: of the processes that are no child of its pid namespace, the one that is
/// not init.
fn broker(bench: &Bench) -> Option<u32> {
    let status = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
        line.unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let processes = bench.processes();
    processes.iter().copied().find(|pid| {
        let text = status(pid);
        let parent = line(&text, "PPid:").first().and_then(|pid| pid.parse().ok());
        line(&text, "NSpid:").len() == 1 && parent.is_some_and(|parent| processes.contains(&parent))
    })
}

#[test]
fn the_broker_has_no_rights_and_its_end_is_no_one_elses() {
    let Some(mut bench) = bench() else { return };
    let server = Server::echo("127.0.0.1");
    let spec = spec(&mut bench, &[&server.endpoint()], None, &["outlive", &server.host(), &server.port()]);
    let running = bench.start(&spec);
    let sandbox::Output::File(stdout) = &spec.stdout else { panic!("the bench writes files") };
    crate::harness::eventually(Duration::from_secs(60), "it is connected", || {
        fs::read_to_string(stdout).is_ok_and(|text| text.contains("connected"))
    });
    let broker = broker(&bench).expect("there is a broker");
    let status = fs::read_to_string(format!("/proc/{broker}/status")).unwrap();
    for line in ["CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line} in\n{status}");
    }
    let pid = rustix::process::Pid::from_raw(broker.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let outcome = crate::harness::outcome(running.wait(), &spec);
    // The connection ends, the listener is gone, and the program goes on.
    let text = outcome.ok();
    let (_, rest) = text.split_once('\n').unwrap();
    assert!(["read 0\nconnect 111\n", "read 104\nconnect 111\n"].contains(&rest), "{text}");
    assert!(bench.processes().is_empty());
}

#[test]
fn a_name_that_nobody_has_is_told() {
    let Some(mut bench) = bench() else { return };
    // RFC 6761: nobody will ever have it.
    let outcome = run(&mut bench, &["db.invalid:80"], &["get", "db.invalid", "80", "hello\n"]);
    assert_eq!(outcome.stdout, format!("connect {EHOSTUNREACH}\n"));
    let [unreached] = outcome.exit.network.unreached.as_slice() else { panic!("{outcome:?}") };
    assert_eq!(unreached.endpoint, "db.invalid:80");
}

#[test]
fn what_is_sent_before_the_end_arrives() {
    let Some(mut bench) = bench() else { return };
    let bytes = 3_000_000;
    let server = Server::new("127.0.0.1", move |mut stream| {
        let mut got = Vec::new();
        stream.read_to_end(&mut got)?;
        assert_eq!(got.len(), bytes);
        Ok(())
    });
    let args = ["throw", &server.host(), &server.port(), &bytes.to_string()];
    let outcome = run(&mut bench, &[&server.endpoint()], &args);
    assert_eq!(outcome.exit.network.sent, bytes as u64);
    outcome.ok();
    assert!(matches!(server.ends().as_slice(), [Ok(())]));
}

#[test]
fn an_end_is_seen_at_once_and_a_reset_as_a_reset() {
    let Some(mut bench) = bench() else { return };
    let server = Server::new("127.0.0.1", |stream| {
        // What a program that is killed does: bytes are left unread.
        stream.peek(&mut [0])?;
        Ok(())
    });
    let outcome = run(&mut bench, &[&server.endpoint()], &["get", &server.host(), &server.port(), "hello\n"]);
    assert_eq!(outcome.exit.ended, Ended::Code(1));
    // It depends on who is quicker whether it comes while the program writes or when it reads.
    let seen = ["read 104\n", "write 104\n", "write 32\n", "write 107\n"];
    assert!(seen.contains(&outcome.stdout.as_str()), "{outcome:?}");
}

#[test]
fn an_endpoint_that_is_down_is_told_with_its_reason() {
    let Some(mut bench) = bench() else { return };
    for address in ["127.0.0.1", "::1"] {
        let Ok(free) = TcpListener::bind((address, 0)) else {
            skip("no IPv6");
            continue;
        };
        let at = free.local_addr().unwrap();
        drop(free);
        let (endpoint, port) = (at.to_string(), at.port().to_string());
        for act in ["get", "epoll"] {
            let outcome = run(&mut bench, &[&endpoint], &[act, address, &port, "hello\n"]);
            assert_eq!(outcome.stdout, format!("connect {ECONNREFUSED}\n"), "{act} {endpoint}");
            let [unreached] = outcome.exit.network.unreached.as_slice() else { panic!("{outcome:?}") };
            assert_eq!((&unreached.endpoint, unreached.times), (&endpoint, 1));
            assert!(unreached.why.contains("refused"), "{unreached:?}");
        }
    }
}

#[test]
fn a_connect_takes_as_long_as_the_real_one() {
    use rustix::net::{AddressFamily, SocketType, bind, connect, getsockname, listen, socket};

    let Some(mut bench) = bench() else { return };
    // A listener with room for one, which has come.
    let listener = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    listen(&listener, 0).unwrap();
    let at = SocketAddr::try_from(getsockname(&listener).unwrap()).unwrap();
    let first = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    connect(&first, &at).unwrap();
    let args = ["try", "127.0.0.1", &at.port().to_string(), "300"];
    assert_eq!(run(&mut bench, &[&at.to_string()], &args).ok(), "0\n");
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = other.local_addr().unwrap();
    let args = ["try", "127.0.0.1", &at.port().to_string(), "30000"];
    assert_eq!(run(&mut bench, &[&at.to_string()], &args).ok(), "1\n");
}

#[test]
fn a_flood_of_connections_is_bounded_and_the_first_still_works() {
    let Some(mut bench) = bench() else { return };
    let server = Server::echo("127.0.0.1");
    let outcome = run(&mut bench, &[&server.endpoint()], &["flood", &server.host(), &server.port(), "1000"]);
    let text = outcome.ok();
    let (made, rest) = text.split_once('\n').unwrap();
    assert!((100..=128).contains(&made.parse::<u32>().unwrap()), "{text}");
    assert_eq!(rest, "still here\n");
}

#[test]
fn this_machine_is_reached_only_where_its_owner_says_so() {
    let Some(mut bench) = bench() else { return };
    bench.launcher.nearby = Nearby::Refused;
    let server = Server::echo("127.0.0.1");
    let spec = spec(&mut bench, &[&server.endpoint()], None, &["connect", &server.host(), &server.port()]);
    match sandbox::start(&bench.launcher, &spec) {
        Err(SandboxError::Spec { field: "network", why }) => assert!(why.contains("this machine"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert!(server.ends().is_empty());
}

/// Seconds that the program says it took.
fn seconds(text: &str) -> f64 {
    text.split_whitespace().last().unwrap().parse().unwrap()
}

/// Sends or receives for three seconds; the part of the rate that it came to.
fn part_of_rate(bench: &mut Bench, rate: u64, server: &Server, act: &str) -> f64 {
    let bytes = rate * 3;
    let args = [act, &server.host(), &server.port(), &bytes.to_string()];
    let spec = spec(bench, &[&server.endpoint()], Some(rate), &args);
    let outcome = bench.run(&spec);
    let carried = outcome.exit.network.sent + outcome.exit.network.received;
    // With the number by which the program begins.
    assert_eq!(carried, bytes + 8);
    bytes as f64 / seconds(&outcome.ok()) / rate as f64
}

/// Sends as many bytes as the first eight say, and takes all that it is sent.
fn exchange(mut stream: TcpStream) -> io::Result<()> {
    let mut wanted = [0; 8];
    stream.read_exact(&mut wanted)?;
    io::copy(&mut io::repeat(0).take(u64::from_le_bytes(wanted)), &mut stream)?;
    io::copy(&mut stream, &mut io::sink()).map(drop)
}

#[test]
fn a_rate_is_kept_each_way() {
    let Some(mut bench) = bench() else { return };
    let server = Server::new("127.0.0.1", exchange);
    for act in ["send", "receive"] {
        // Never faster. It is slower while the machine has better things to do than a subjob's.
        let tries = 5;
        let kept = (0..tries).any(|_| {
            let part = part_of_rate(&mut bench, 2_000_000, &server, act);
            assert!(part < 1.05, "{act}: {part} of the rate");
            part > 0.95
        });
        if !kept && is_busy() {
            return skip("the machine is too busy for a subjob to use its rate");
        }
        assert!(kept, "{act}: below 0.95 of the rate, {tries} times");
    }
}

/// Whether more wants to run than there are processors.
fn is_busy() -> bool {
    let load = fs::read_to_string("/proc/loadavg").unwrap();
    let load: f64 = load.split(' ').next().unwrap().parse().unwrap();
    load > thread::available_parallelism().unwrap().get() as f64
}
