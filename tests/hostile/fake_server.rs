//! A server with the grid's true keys that means harm to its clients.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use grid_tests::binary;
use model::{BlobHash, Fence, JobId, SubjobId};
use protocol::client_link::{LEASE_KEYS, SIGNATURE_HEADER, keys_info, manifest_text, reply_text};
use protocol::manifest::Manifest;
use protocol::token::{Token, TokenKind};
use rustls::crypto::ring::default_provider;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use server::keys::GridKeys;
use tempfile::TempDir;

use crate::raw::{content_length, read_head};
use crate::rogue::hash;

/// What the client is to be told, and what it has said.
#[derive(Debug, Default)]
struct Told {
    leases: Vec<Value>,
    blobs: Vec<(BlobHash, Vec<u8>)>,
    reports: Vec<Value>,
    polls: usize,
    /// What the client's keys are sealed to, once it has registered.
    seal_key: Option<BlobHash>,
}

/// The server and the one client that believes it.
pub struct Trap {
    pub scratch: TempDir,
    keys: Arc<GridKeys>,
    told: Arc<Mutex<Told>>,
    stop: Arc<AtomicBool>,
    client: Child,
    address: std::net::SocketAddr,
}

impl Trap {
    /// With a client that seals files or not, as `--seal` says.
    pub fn set(seal: &str) -> Self {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let keys = Arc::new(GridKeys::open(scratch.path()).expect("keys"));
        let (certificates, private) = keys.tls_identity(&["127.0.0.1".to_owned()]).expect("a certificate");
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(certificates, private.into())
            .expect("our own key");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (told, stop) = (Arc::new(Mutex::new(Told::default())), Arc::new(AtomicBool::new(false)));
        let (state, stopped, own) = (Arc::clone(&told), Arc::clone(&stop), Arc::clone(&keys));
        let config = Arc::new(config);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (state, config, keys) = (Arc::clone(&state), Arc::clone(&config), Arc::clone(&own));
                std::thread::spawn(move || serve(stream, &config, &keys, &state));
            }
        });
        let token = Token { kind: TokenKind::Join, ca_key: keys.ca_public().0, secret: [7; 24] };
        let log = std::fs::File::create(scratch.path().join("client.log")).expect("a log file");
        let mut command = Command::new(binary());
        command.args(["client", "--cpus", "2", "--disk-floor", "64MiB", "--token", &token.to_string()]);
        command.args(["--seal", seal]);
        command
            .args(["--server", &format!("https://{address}"), "--state"])
            .arg(scratch.path().join("client"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let client = command.spawn().expect("the client starts");
        Trap { scratch, keys, told, stop, client, address }
    }

    /// A lease that any client takes: the program does nothing, and well; `change` makes it hostile.
    pub fn lease(&self, fence: u64, change: impl FnOnce(&mut Value)) -> Value {
        let wrapped = wrap::wrap(&wrap::Request {
            program: "true".to_owned(),
            include: Vec::new(),
            base_dir: "/".into(),
            search_path: "/usr/bin:/bin".into(),
            jit: wrap::Jit::Auto,
            display: wrap::Display::None,
            shell_text: None,
        });
        let wrapped = wrapped.expect("every system has it");
        let read = |source: &wrap::Source| source.read().expect("it was just wrapped");
        let blobs = wrapped.sources.values().map(read).chain([b"input".to_vec()]).collect();
        self.lease_of(fence, &wrapped.manifest, blobs, change)
    }

    fn lease_of(
        &self,
        fence: u64,
        manifest: &Manifest,
        blobs: Vec<Vec<u8>>,
        change: impl FnOnce(&mut Value),
    ) -> Value {
        let encoded = manifest.encode();
        let name = hash(&encoded);
        let mut lease = json!({
            "fence": fence, "subjob": { "job": 1, "index": fence }, "attempt": 1, "job_name": "trap",
            "user": "mallory", "application": name.to_string(), "application_size": encoded.len(),
            "application_signature": STANDARD.encode(&self.keys.grid().sign(&manifest_text(&name)).0),
            "command": ["true"], "env": [], "stdin": null,
            "inputs": [{ "path": "input", "hash": hash(b"input").to_string(), "size": 5 }],
            "outputs": [], "resources": { "cpus": 1, "memory": 64 << 20, "disk": 64 << 20 },
            "limits": {
                "runtime_min": { "secs": 0, "nanos": 0 }, "runtime_max": { "secs": 60, "nanos": 0 },
                "processes": 16, "output": 1 << 20,
            },
            "secrets": null,
        });
        change(&mut lease);
        let mut told = self.told.lock().expect("no panic");
        told.blobs.extend(blobs.into_iter().chain([encoded]).map(|bytes| (hash(&bytes), bytes)));
        lease
    }

    /// Gives out leases, and waits for a report of each.
    #[track_caller]
    pub fn give(&mut self, leases: Vec<Value>) -> Vec<Value> {
        let count = leases.len();
        {
            let mut told = self.told.lock().expect("no panic");
            told.reports.clear();
            told.leases = leases;
        }
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            let reports = self.told.lock().expect("no panic").reports.clone();
            if reports.len() >= count {
                return reports;
            }
            let ended = self.client.try_wait().expect("a child");
            assert!(ended.is_none() && std::time::Instant::now() < deadline, "{ended:?}: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("client.log")).unwrap_or_default()
    }

    pub fn state(&self) -> std::path::PathBuf {
        self.scratch.path().join("client")
    }

    pub fn is_alive(&mut self) -> bool {
        matches!(self.client.try_wait(), Ok(None))
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.client.kill();
        let _ = self.client.wait();
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: TcpStream, config: &Arc<ServerConfig>, keys: &GridKeys, told: &Mutex<Told>) {
    let Ok(connection) = ServerConnection::new(Arc::clone(config)) else { return };
    let mut stream = StreamOwned::new(connection, stream);
    while let Some((head, mut body)) = read_head(&mut stream) {
        let length = content_length(&head).unwrap_or(0);
        let mut rest = vec![0; length.saturating_sub(body.len())];
        if std::io::Read::read_exact(&mut stream, &mut rest).is_err() {
            return;
        }
        body.extend(rest);
        let (reply, signature) = answer(&head, &body, keys, told);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{signature}\r\n", reply.len());
        if stream.write_all(&[head.as_bytes(), &reply].concat()).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}

fn answer(head: &str, body: &[u8], keys: &GridKeys, told: &Mutex<Told>) -> (Vec<u8>, String) {
    let said: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    if head.starts_with("POST /v1/clients ") {
        let public: BlobHash = said["public_key"].as_str().and_then(|key| key.parse().ok()).expect("a key");
        let seal_key = said["seal_key"].as_str().and_then(|key| key.parse().ok());
        told.lock().expect("no panic").seal_key = seal_key;
        let reply = json!({
            "client": link::keys::client_id(&public).to_string(),
            "grid_key": keys.grid().public().to_string(),
            "grid_key_signature": STANDARD.encode(&keys.grid_key_signature().0),
        });
        return (reply.to_string().into_bytes(), String::new());
    }
    if head.starts_with("POST /v1/poll ") {
        let reply = poll(&said, told).to_string().into_bytes();
        let request = head.lines().find_map(|line| line.strip_prefix(&format!("{SIGNATURE_HEADER}: ")));
        let text = reply_text(request.expect("polls are signed"), 200, &hash(&reply));
        return (reply, format!("{SIGNATURE_HEADER}: {}\r\n", STANDARD.encode(&keys.grid().sign(&text).0)));
    }
    let told = told.lock().expect("no panic");
    let path = head.split(' ').nth(1).unwrap_or_default();
    let blob = told.blobs.iter().find(|(name, _)| path.ends_with(&name.to_string()));
    let range = head.lines().find_map(|line| line.strip_prefix("range: bytes=")?.split_once('-'));
    let range = range.and_then(|(from, to)| Some(from.parse::<usize>().ok()?..to.parse::<usize>().ok()? + 1));
    let part = blob.zip(range).and_then(|((_, bytes), range)| bytes.get(range));
    (part.unwrap_or_default().to_vec(), String::new())
}

fn poll(said: &Value, told: &Mutex<Told>) -> Value {
    let mut told = told.lock().expect("no panic");
    told.polls += 1;
    let reports = said["reports"].as_array().cloned().unwrap_or_default();
    let settled: Vec<Value> = reports.iter().map(|report| report["fence"].clone()).collect();
    told.reports.extend(reports);
    let mut leases = std::mem::take(&mut told.leases);
    let seal_key = told.seal_key.expect("it has registered");
    leases.iter_mut().for_each(|lease| lease["keys"] = keys(lease, &seal_key));
    let pause = if leases.is_empty() { 50 } else { 0 };
    json!({ "seq": said["seq"], "leases": leases, "cancel": [], "settled": settled, "next_poll_ms": pause })
}

/// Good keys for a lease: what is wrong with it is something else.
fn keys(lease: &Value, seal_key: &BlobHash) -> Value {
    let number = |value: &Value| value.as_u64().expect("a number");
    let subjob =
        SubjobId { job: JobId(number(&lease["subjob"]["job"])), index: number(&lease["subjob"]["index"]) };
    let info = keys_info(Fence(number(&lease["fence"])), subjob);
    let sealed = link::keys::seal(seal_key, &info, &[5; LEASE_KEYS]).expect("a public key");
    serde_json::to_value(sealed).expect("text")
}

/// Whether there is anything of that name below a directory.
pub fn exists_below(directory: &Path, name: &str) -> bool {
    std::fs::read_dir(directory).into_iter().flatten().flatten().any(|entry| {
        entry.file_name() == name
            || entry.file_type().is_ok_and(|kind| kind.is_dir()) && exists_below(&entry.path(), name)
    })
}
