//! How many subjobs a second a server hands out and takes back, durably, over TLS.
//!
//! `cargo run --release -p server --example dispatch -- CLIENTS PER_POLL SUBJOBS`: a server with the SQLite store
//! and the file store in a temporary directory, and clients that speak the real protocol but end each subjob at
//! once. Server and load share the machine. Prints one line.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use link::client::ClientKeys;
use link::http::Address;
use link::keys::{OpeningKey, SigningKey};
use link::trust::Trust;
use link::{ClientLink, UserLink};
use model::{BlobHash, ByteSize, Capacity, Inventory, Permits, Usage};
use protocol::api::{JobView, Role, SubmitReply, SubmitRequest, TokenGrants};
use protocol::client_link::{Bytes, PollRequest, Report, ReportedFile};
use protocol::manifest::{Entry, FileKind, MANIFEST_VERSION, Manifest};
use protocol::token::{Token, TokenKind};
use server::{Config, Server};
use tokio::task::JoinSet;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let number = |at, default| std::env::args().nth(at).map_or(Ok(default), |text| text.parse::<u64>());
    let (clients, per_poll, subjobs) = (number(1, 64)?, number(2, 10)?, number(3, 20_000)?);
    let directory = tempfile::tempdir()?;
    let server = Server::start(&Config {
        state: directory.path().to_owned(),
        listen: "127.0.0.1:0".to_owned(),
        names: Vec::new(),
        lease_ttl: Duration::from_secs(120),
        disk_floor: ByteSize(0),
    })
    .await?;
    let address = Address::parse(&format!("https://{}", server.address()))?;
    let user = TokenGrants::User { user: "bench".parse()?, role: Role::Admin };
    let user = Token::parse(&server.create_token(user, None).await?, TokenKind::User)?;
    let join = Token::parse(&server.create_token(TokenGrants::Join, None).await?, TokenKind::Join)?;
    let trust = Trust::GridCa(BlobHash(user.ca_key));
    let mut link = UserLink::new(address.clone(), &user, &trust)?;
    let mut polling = JoinSet::new();
    for _ in 0..clients {
        let keys = Arc::new(ClientKeys { signing: SigningKey::generate()?, opening: OpeningKey::generate() });
        let mut link = ClientLink::new(address.clone(), &trust, keys)?;
        let grid_key = link.register(&join, inventory()).await?;
        polling.spawn(async move { client(&mut link, &grid_key, per_poll).await });
    }
    let begun = Instant::now();
    let job = submit(&mut link, subjobs).await?;
    let submitted = begun.elapsed();
    let mut after = 0;
    loop {
        let path = format!("/v1/jobs/{}?after={after}&wait_s=20", job.job);
        let view: JobView = link.get_waiting(&path, Duration::from_secs(20)).await?;
        if view.state.is_final() {
            let took = begun.elapsed();
            let rate = view.counts.succeeded as f64 / (took - submitted).as_secs_f64();
            println!(
                "{clients} clients, {per_poll} per poll: {} subjobs in {:.2} s = {rate:.0}/s; submit took {:.1} ms",
                view.counts.succeeded,
                took.as_secs_f64(),
                submitted.as_secs_f64() * 1e3
            );
            break;
        }
        after = view.version;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    polling.shutdown().await;
    server.stop().await;
    Ok(())
}

/// Polls, and reports what it was given as done at the next poll.
async fn client(link: &mut ClientLink, grid_key: &BlobHash, per_poll: u64) -> Result<(), Failure> {
    let mut reports: Vec<Report> = Vec::new();
    for seq in 1.. {
        let cpus = u32::try_from(per_poll)?;
        let request = PollRequest {
            seq,
            answered: seq - 1,
            capacity: Capacity {
                cpus,
                memory: ByteSize::gib(4_000),
                disk: ByteSize::gib(4_000),
                permits: Permits::default(),
            },
            held: reports.iter().map(|report| report.fence).collect(),
            reports: std::mem::take(&mut reports),
            inventory: None,
            wait_s: 20,
        };
        let reply = link.poll(&request, grid_key).await?;
        reports = reply.leases.iter().map(|lease| report(lease.fence)).collect();
    }
    Ok(())
}

fn report(fence: model::Fence) -> Report {
    let text = format!("result of {fence}\n").into_bytes();
    let stdout = ReportedFile {
        path: "stdout".to_owned(),
        hash: BlobHash(*blake3::hash(&text).as_bytes()),
        size: text.len() as u64,
        inline: Some(Bytes(text)),
    };
    Report { fence, failure: None, outputs: vec![stdout], usage: Usage::default() }
}

async fn submit(link: &mut UserLink, subjobs: u64) -> Result<SubmitReply, Failure> {
    let program = b"not run";
    let program_hash = BlobHash(*blake3::hash(program).as_bytes());
    let entry = Entry::File { hash: program_hash, size: program.len() as u64, kind: FileKind::Program };
    let manifest = Manifest {
        version: MANIFEST_VERSION,
        name: "nothing".to_owned(),
        program: "/nothing".to_owned(),
        entries: BTreeMap::from([("/nothing".to_owned(), entry)]),
    }
    .encode();
    let application = BlobHash(*blake3::hash(&manifest).as_bytes());
    link.upload_bytes(&program_hash, program).await?;
    link.upload_bytes(&application, &manifest).await?;
    let spec = format!(
        "spec = 1\nname = 'dispatch'\ncommand = ['nothing', '{{seed}}']\nrepeat = {{ times = {subjobs}, seed = 1 }}\n\
         resources = {{ memory = '1MiB', disk = '1MiB' }}\n\
         aggregate = {{ how = 'concat', from = 'stdout', out = 'all' }}\n"
    );
    let request = SubmitRequest {
        spec: None,
        spec_toml: Some(spec),
        files: BTreeMap::new(),
        application,
        secrets: BTreeMap::new(),
        idempotency_key: "dispatch".to_owned(),
    };
    Ok(link.post("/v1/jobs", &request).await?)
}

fn inventory() -> Inventory {
    Inventory {
        host_name: "bench".to_owned(),
        cpu_model: String::new(),
        cpus: 1,
        memory: ByteSize::gib(1),
        disk: ByteSize::gib(1),
        kernel: String::new(),
        version: String::new(),
        permits: Permits::default(),
    }
}
