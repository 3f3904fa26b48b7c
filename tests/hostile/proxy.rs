//! A proxy that opens TLS, as companies have them: it sees everything, and can change nothing that counts.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use grid_tests::{Grid, binary};
use protocol::client_link::SIGNATURE_HEADER;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::raw::{self, Reply, content_length, read_head, read_reply};
use crate::rogue::submit;

/// What the proxy does to answers to polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Honest,
    /// Takes every subjob away.
    Change,
    /// Answers what it heard before.
    Replay,
    /// Says that the client was revoked.
    Refuse,
    Stop,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    /// Answers that were changed.
    lies: usize,
    /// An answer that was good once.
    heard: Option<Vec<u8>>,
}

struct Proxy {
    address: SocketAddr,
    bundle: PathBuf,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    fn before(grid: &Grid) -> Self {
        let ca_key = KeyPair::generate().expect("a key");
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = ca.self_signed(&ca_key).expect("signed");
        let bundle = grid.file("company.pem", certificate.pem());
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
        let leaf = params.signed_by(&key, &Issuer::from_params(&ca, &ca_key)).expect("signed");
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .expect("our own key");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(Mutex::new(State { mode: Mode::Honest, lies: 0, heard: None }));
        let (shared, config, upstream) = (Arc::clone(&state), Arc::new(config), grid.url.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, config, upstream) = (Arc::clone(&shared), Arc::clone(&config), upstream.clone());
                if state.lock().expect("no panic").mode == Mode::Stop {
                    return;
                }
                std::thread::spawn(move || pass(stream, &config, &upstream, &state));
            }
        });
        Proxy { address, bundle, state }
    }

    fn set(&self, mode: Mode) {
        let mut state = self.state.lock().expect("no panic");
        (state.mode, state.lies) = (mode, 0);
    }

    fn lies(&self) -> usize {
        self.state.lock().expect("no panic").lies
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Mode::Stop);
        let _ = TcpStream::connect(self.address);
    }
}

/// Passes requests on, and answers back, until one side hangs up.
fn pass(stream: TcpStream, config: &Arc<ServerConfig>, upstream: &str, state: &Mutex<State>) {
    let Ok(connection) = ServerConnection::new(Arc::clone(config)) else { return };
    let mut stream = StreamOwned::new(connection, stream);
    let mut server = raw::tls(upstream);
    while let Some((head, mut body)) = read_head(&mut stream) {
        let mut rest = vec![0; content_length(&head).unwrap_or(0).saturating_sub(body.len())];
        if std::io::Read::read_exact(&mut stream, &mut rest).is_err() {
            return;
        }
        body.extend(rest);
        if server.write_all(&[head.as_bytes(), &body].concat()).and_then(|()| server.flush()).is_err() {
            return;
        }
        let Some(reply) = read_reply(&mut server) else { return };
        let answer = bend(&head, &reply, state);
        if stream.write_all(&answer).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}

/// What becomes of an answer.
fn bend(request: &str, reply: &Reply, state: &Mutex<State>) -> Vec<u8> {
    let honest = [reply.head.as_bytes(), reply.body.as_slice()].concat();
    let mut state = state.lock().expect("no panic");
    if !request.starts_with("POST /v1/poll ") {
        return honest;
    }
    let signature = reply.header(SIGNATURE_HEADER).unwrap_or_default().to_owned();
    let lie = |status: &str, body: &str| {
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{SIGNATURE_HEADER}: {signature}");
        format!("{head}\r\n\r\n{body}").into_bytes()
    };
    let answer = match state.mode {
        Mode::Honest | Mode::Stop => {
            state.heard = Some(honest.clone());
            return honest;
        }
        Mode::Change => {
            let mut json = reply.json();
            json["leases"] = serde_json::json!([]);
            json["next_poll_ms"] = serde_json::json!(1);
            lie("200 OK", &json.to_string())
        }
        Mode::Replay => state.heard.clone().expect("something was heard"),
        Mode::Refuse => {
            lie("403 Forbidden", r#"{"status":403,"code":"client_revoked","detail":"you were revoked"}"#)
        }
    };
    state.lies += 1;
    answer
}

struct Client(Child);

impl Client {
    /// Starts a client that knows the grid through the proxy.
    fn start(grid: &Grid, proxy: &Proxy, bundle: Option<&Path>, log: &str) -> Self {
        let token = grid.cli(&["token", "create", "join"]).ok();
        let log = std::fs::File::create(grid.scratch.path().join(log)).expect("a log file");
        let mut command = Command::new(binary());
        command.args(["client", "--cpus", "2", "--disk-floor", "64MiB", "--token", token.trim()]);
        command.args(["--server", &format!("https://{}", proxy.address), "--state"]);
        command.arg(grid.scratch.path().join("client")).env_remove("DCGRID_CA_BUNDLE");
        command.args(bundle.iter().flat_map(|path| [Path::new("--ca-bundle"), path]));
        Client(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("it starts"))
    }

    fn is_alive(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn has_succeeded(grid: &Grid, job: &str) -> bool {
    grid.cli(&["--json", "show", job]).json()["state"] == "succeeded"
}

#[test]
fn a_grid_works_through_a_proxy_and_notices_its_lies() {
    let grid = Grid::start(0);
    let proxy = Proxy::before(&grid);
    let mut client = Client::start(&grid, &proxy, Some(&proxy.bundle), "client.log");
    let job = submit(&grid, 2);
    grid.wait_until("the job has ended", |grid| has_succeeded(grid, &job));
    for mode in [Mode::Change, Mode::Replay, Mode::Refuse] {
        proxy.set(mode);
        let job = submit(&grid, 1);
        grid.wait_until("the proxy has lied three times", |_| proxy.lies() >= 3);
        assert!(client.is_alive(), "{mode:?} ends the client");
        assert!(!has_succeeded(&grid, &job), "{mode:?} is believed");
        proxy.set(Mode::Honest);
        grid.wait_until("the job has ended", |grid| has_succeeded(grid, &job));
    }
    let log = std::fs::read_to_string(grid.scratch.path().join("client.log")).expect("a log");
    assert!(log.contains("was not signed by the grid"), "{log}");
}

#[test]
fn a_proxy_that_nobody_let_in_is_no_server() {
    let grid = Grid::start(0);
    let proxy = Proxy::before(&grid);
    let mut client = Client::start(&grid, &proxy, None, "refused.log");
    grid.wait_until("the client has given up", |_| !client.is_alive());
    let log = std::fs::read_to_string(grid.scratch.path().join("refused.log")).expect("a log");
    assert!(log.contains("is not the one the token is for"), "{log}");
}
