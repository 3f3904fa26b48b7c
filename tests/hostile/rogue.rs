//! A client with a valid key and bad intentions: it says what it likes, signed as it should be.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use grid_tests::Grid;
use link::keys::{OpeningKey, SigningKey, client_id};
use model::{BlobHash, ClientId};
use protocol::client_link::{CLIENT_HEADER, SIGNATURE_HEADER, request_text};
use protocol::token::{Token, TokenKind};
use serde_json::{Value, json};

use crate::raw::{self, Reply};

#[derive(Debug)]
pub struct Rogue {
    pub key: SigningKey,
    pub seal: OpeningKey,
    pub seq: u64,
    url: String,
}

impl Rogue {
    /// A key that no server knows yet.
    pub fn stranger(grid: &Grid) -> Self {
        let key = SigningKey::generate().expect("random numbers");
        Rogue { key, seal: OpeningKey::generate(), seq: 1_000, url: grid.url.clone() }
    }

    /// A client that has joined.
    pub fn join(grid: &Grid) -> Self {
        let rogue = Rogue::stranger(grid);
        let reply = rogue.register(&join_secret(grid), &rogue.key.public());
        assert_eq!(reply.status, 200, "{reply:?}");
        rogue
    }

    pub fn id(&self) -> ClientId {
        client_id(&self.key.public())
    }

    pub fn register(&self, secret: &str, public_key: &BlobHash) -> Reply {
        let body = json!({
            "token": secret,
            "public_key": public_key.to_string(),
            "seal_key": self.seal.public().to_string(),
            "inventory": inventory("rogue"),
        });
        self.send("POST", "/v1/clients", body.to_string().as_bytes())
    }

    /// Any request, signed.
    pub fn send(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        let signature = self.sign(method, path, body);
        self.send_signed(method, path, body, &signature)
    }

    pub fn sign(&self, method: &str, path: &str, body: &[u8]) -> String {
        let text = request_text(self.id(), method, path, &hash(body));
        STANDARD.encode(&self.key.sign(&text).0)
    }

    pub fn send_signed(&self, method: &str, path: &str, body: &[u8], signature: &str) -> Reply {
        let id = self.id().to_string();
        raw::request(&self.url, method, path, &[(CLIENT_HEADER, &id), (SIGNATURE_HEADER, signature)], body)
    }

    /// A poll with room for two subjobs that is answered at once; `change` makes of it what is not meant to be.
    pub fn poll(&mut self, change: impl FnOnce(&mut Value)) -> Reply {
        self.seq += 1;
        let mut poll = json!({
            "seq": self.seq,
            "answered": self.seq - 1,
            "capacity": { "cpus": 2, "memory": 4u64 << 30, "disk": 8u64 << 30 },
            "held": [],
            "reports": [],
            "inventory": null,
            "wait_s": 0,
        });
        change(&mut poll);
        self.send("POST", "/v1/poll", poll.to_string().as_bytes())
    }

    /// Polls for one lease.
    pub fn lease(&mut self) -> Value {
        let reply = self.poll(|poll| poll["capacity"]["cpus"] = json!(1));
        let lease = reply.json()["leases"][0].clone();
        assert!(lease["fence"].is_u64(), "no lease in {}", reply.json());
        lease
    }

    /// Reports one thing about one lease.
    pub fn report(&mut self, report: &Value) -> Reply {
        self.poll(|poll| {
            poll["capacity"]["cpus"] = json!(0);
            poll["held"] = json!([report["fence"]]);
            poll["reports"] = json!([report]);
        })
    }

    pub fn upload(&self, fence: &Value, hash: &BlobHash, total: u64, offset: u64, part: &[u8]) -> Reply {
        let path = format!("/v1/client/blobs/{hash}?total={total}&offset={offset}&fence={fence}");
        self.send("PUT", &path, part)
    }
}

pub fn inventory(host_name: &str) -> Value {
    json!({
        "host_name": host_name, "cpu_model": "x", "cpus": 2, "memory": 1u64 << 32, "disk": 1u64 << 40,
        "kernel": "6", "version": "0",
    })
}

/// The report of a subjob that wrote `stdout` and nothing else.
pub fn success(lease: &Value, stdout: &str) -> Value {
    json!({
        "fence": lease["fence"],
        "failure": null,
        "outputs": [file("stdout", stdout.as_bytes()), file("stderr", b"")],
        "usage": usage(1, 1),
    })
}

pub fn file(path: &str, bytes: &[u8]) -> Value {
    json!({
        "path": path, "hash": hash(bytes).to_string(), "size": bytes.len(), "inline": STANDARD.encode(bytes),
    })
}

pub fn usage(wall_s: u64, cpu_s: u64) -> Value {
    json!({
        "wall": { "secs": wall_s, "nanos": 0 }, "cpu": { "secs": cpu_s, "nanos": 0 }, "peak_memory": 1,
    })
}

pub fn hash(bytes: &[u8]) -> BlobHash {
    BlobHash(*blake3::hash(bytes).as_bytes())
}

pub fn join_secret(grid: &Grid) -> String {
    secret(&grid.cli(&["token", "create", "join"]).ok(), TokenKind::Join)
}

/// The secret of a new user's token.
pub fn user_secret(grid: &Grid, name: &str) -> String {
    secret(&grid.cli(&["token", "create", "user", name]).ok(), TokenKind::User)
}

fn secret(token: &str, kind: TokenKind) -> String {
    Token::parse(token, kind).expect("a token").secret_text()
}

/// Submits a job of `subjobs` that each print their index; returns its number.
pub fn submit(grid: &Grid, subjobs: u32) -> String {
    grid.file(
        "job.toml",
        format!(
            "spec = 1\nname = 'job'\ncommand = ['echo', '{{index}}']\nrepeat = {{ times = {subjobs}, seed = 1 }}\n\
             aggregate = {{ how = 'concat', from = 'stdout', out = 'all' }}\n"
        ),
    );
    grid.cli(&["submit", "job.toml"]).ok().trim().to_owned()
}
