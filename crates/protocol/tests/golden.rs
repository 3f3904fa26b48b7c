//! The wire and disk formats as they are: one file for each message. A change that shows here is a change that
//! clients and servers of different versions will notice.
//!
//! `UPDATE_GOLDEN=1 cargo test -p protocol --test golden` writes them anew.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use model::network::Reach;
use model::plan::{Content, Input};
use model::{
    BlobHash, ByteSize, Capacity, ClientId, Counts, Crash, Dialog, DisplaySize, FailureReason, Fence,
    Inventory, JobId, JobState, Limits, NetworkAccess, Permits, Resources, Sealing, SubjobId, Timestamp,
    Usage,
};
use protocol::api::{JobView, Problem, ProblemCode, Role, SubmitRequest, TokenGrants, TokenRequest};
use protocol::client_link::{
    Bytes, DeclaredOutput, Lease, PollReply, PollRequest, RegisterRequest, Report, ReportedFile, Sealed,
    grid_key_text, keys_info, manifest_text, reply_text, request_text, secrets_info,
};
use protocol::manifest::{Entry, FileKind, MANIFEST_VERSION, Manifest};
use protocol::token::{SECRET_LEN, Token, TokenKind};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Compares a message with its file, and reads the file back.
#[track_caller]
fn check<T: Serialize + DeserializeOwned>(name: &str, value: &T) {
    let text = serde_json::to_string_pretty(value).expect("serializable") + "\n";
    check_text(name, &text);
    let read: T = serde_json::from_str(&text).expect("what was written can be read");
    assert_eq!(serde_json::to_string_pretty(&read).expect("serializable") + "\n", text);
}

#[track_caller]
fn check_text(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).expect("the golden file can be written");
    }
    let golden = std::fs::read_to_string(&path).expect("a golden file for each message");
    assert_eq!(text, golden, "{name}");
}

fn hash(byte: u8) -> BlobHash {
    BlobHash([byte; 32])
}

const PERMITS: Permits = Permits { network: Reach::Elsewhere, display: false, sealing: Sealing::OnRequest };

fn inventory() -> Inventory {
    Inventory {
        host_name: "lab-1".into(),
        cpu_model: "Example 3000".into(),
        cpus: 8,
        memory: ByteSize::gib(16),
        disk: ByteSize::gib(500),
        kernel: "6.1.0".into(),
        version: "0.1.0".into(),
        permits: PERMITS,
    }
}

fn usage() -> Usage {
    Usage {
        wall: Duration::from_millis(1_500),
        cpu: Duration::from_millis(1_250),
        peak_memory: ByteSize::mib(64),
    }
}

fn lease() -> Lease {
    Lease {
        fence: Fence(70),
        subjob: SubjobId { job: JobId(41), index: 877 },
        attempt: 2,
        job_name: "search".into(),
        user: "alice".into(),
        application: hash(1),
        application_size: 1_234,
        application_signature: Bytes(vec![2; 64]),
        command: vec!["hmmsearch".into(), "query.hmm".into()],
        env: vec![("OMP_NUM_THREADS".into(), "1".into())],
        stdin: Some("in.txt".into()),
        inputs: vec![Input { path: "query.hmm".into(), hash: hash(3), size: 99 }],
        outputs: vec![DeclaredOutput { path: "hits.tbl".into(), optional: false }],
        resources: Resources::default(),
        limits: Limits::default(),
        network: NetworkAccess {
            allow: vec!["db.example:5432".parse().expect("an endpoint")],
            rate: Some(ByteSize(1_000_000)),
        },
        display: Some(DisplaySize::default()),
        secrets: Some(Sealed { encapsulated_key: Bytes(vec![4; 32]), ciphertext: Bytes(vec![5; 40]) }),
        keys: Some(Sealed { encapsulated_key: Bytes(vec![6; 32]), ciphertext: Bytes(vec![7; 80]) }),
    }
}

#[test]
fn client_link() {
    let register = RegisterRequest {
        token: "c2VjcmV0".into(),
        public_key: hash(1),
        seal_key: hash(2),
        inventory: inventory(),
    };
    check("register-request.json", &register);
    let report = |failure| Report {
        fence: Fence(69),
        failure,
        outputs: vec![
            ReportedFile {
                path: "stdout".into(),
                hash: hash(6),
                size: 3,
                inline: Some(Bytes(b"hi\n".to_vec())),
            },
            ReportedFile { path: "hits.tbl".into(), hash: hash(7), size: 1 << 20, inline: None },
        ],
        usage: usage(),
    };
    let limit = FailureReason::MemoryLimit { limit: ByteSize::gib(2), peak: ByteSize(2_147_500_032) };
    let poll = PollRequest {
        seq: 12,
        answered: 11,
        capacity: Capacity { cpus: 2, memory: ByteSize::gib(8), disk: ByteSize::gib(100), permits: PERMITS },
        held: vec![Fence(68)],
        reports: vec![report(None), report(Some(limit))],
        inventory: Some(inventory()),
        wait_s: 25,
    };
    check("poll-request.json", &poll);
    let reply = PollReply {
        seq: 12,
        leases: vec![lease()],
        cancel: vec![Fence(68)],
        settled: vec![Fence(69)],
        next_poll_ms: 0,
    };
    check("poll-reply.json", &reply);
}

#[test]
fn every_failure_reason() {
    let text = |text: &str| text.to_owned();
    let crash = Crash {
        program: text("/usr/bin/lmp"),
        signal: 11,
        address: Some(16),
        backtrace: vec![text("main+0x1c in /usr/bin/lmp")],
    };
    let reasons = [
        FailureReason::ExitCode { code: 1 },
        FailureReason::Signal { signal: 11, crash: None },
        FailureReason::Signal { signal: 11, crash: Some(Box::new(crash)) },
        FailureReason::Dialog { dialog: Dialog { title: text("Error"), text: Some(text("no file")) } },
        FailureReason::CpuLimit { limit: Duration::from_secs(60), used: Duration::from_millis(60_100) },
        FailureReason::MemoryLimit { limit: ByteSize(1), peak: ByteSize(2) },
        FailureReason::RuntimeMax { limit: Duration::from_secs(60), dialog: None },
        FailureReason::RuntimeMin { limit: Duration::from_secs(60), ran: Duration::from_millis(5) },
        FailureReason::ProcessLimit { limit: 256, peak: 256 },
        FailureReason::DiskLimit { limit: ByteSize(1), used: ByteSize(2) },
        FailureReason::OutputLimit { limit: ByteSize(1), size: ByteSize(2) },
        FailureReason::OutputMissing { path: text("hits.tbl") },
        FailureReason::OutputRefused { path: text("hits.tbl"), why: text("it is a link") },
        FailureReason::NotStarted { why: text("no such file") },
        FailureReason::ClientStorage { why: text("disk full") },
        FailureReason::Tampering { path: text("query.hmm") },
        FailureReason::ClientSetup { why: text("no namespaces") },
        FailureReason::PortalLost { why: text("it fell silent") },
        FailureReason::LeaseExpired,
        FailureReason::LeaseLost,
        FailureReason::Evicted { why: text("the client was stopped") },
    ];
    check("failure-reasons.json", &reasons.to_vec());
}

#[test]
fn user_api() {
    let submit = SubmitRequest {
        spec: None,
        spec_toml: Some("spec = 1\n".into()),
        files: BTreeMap::from([("query.hmm".into(), Content { hash: hash(1), size: 99 })]),
        application: hash(2),
        secrets: BTreeMap::from([("LICENCE".into(), "value".into())]),
        idempotency_key: "key".into(),
    };
    check("submit-request.json", &submit);
    let view = JobView {
        job: JobId(41),
        name: "search".into(),
        user: "alice".parse().expect("valid"),
        state: JobState::Failed,
        reason: Some("1 of 3 subjobs failed".into()),
        submitted: Timestamp(1_795_507_694_000),
        ended: Some(Timestamp(1_795_507_700_000)),
        counts: Counts { total: 3, waiting: 0, running: 0, succeeded: 2, failed: 1, cancelled: 0 },
        cpu_s: 2.5,
        version: 9,
    };
    check("job-view.json", &view);
    let user = TokenGrants::User { user: "alice".parse().expect("valid"), role: Role::User };
    check("token-request.json", &TokenRequest { grants: user, uses: Some(1), expires_s: Some(3_600) });
    let problem = Problem {
        status: 401,
        code: ProblemCode::NotLoggedIn,
        detail: "this token has expired".into(),
        fix: Some("ask for a new one".into()),
    };
    check("problem.json", &problem);
}

#[test]
fn manifest() {
    let file = |kind| Entry::File { hash: hash(1), size: 3, kind };
    let manifest = Manifest {
        version: MANIFEST_VERSION,
        name: "true".into(),
        program: "/usr/bin/true".into(),
        entries: BTreeMap::from([
            ("/bin".into(), Entry::Symlink { target: "usr/bin".into() }),
            ("/etc/empty".into(), Entry::Directory),
            ("/usr/bin/true".into(), file(FileKind::Program)),
            ("/usr/bin/java".into(), file(FileKind::JitProgram)),
            ("/usr/lib/libc.so.6".into(), file(FileKind::Library)),
            ("/usr/share/data".into(), file(FileKind::Data)),
        ]),
    };
    check("manifest.json", &manifest);
}

/// What is signed and what tokens look like: a difference of one byte here breaks every signature.
#[test]
fn texts() {
    let client = ClientId([8; 16]);
    let token = |kind| Token { kind, ca_key: [1; 32], secret: [2; SECRET_LEN] };
    let texts = [
        request_text(client, "POST", "/v1/poll?x=1", &hash(3)),
        reply_text("c2ln", 200, &hash(4)),
        grid_key_text(&hash(5)),
        manifest_text(&hash(6)),
        secrets_info(Fence(70), SubjobId { job: JobId(41), index: 877 }),
        keys_info(Fence(70), SubjobId { job: JobId(41), index: 877 }),
        token(TokenKind::Join).to_string() + "\n",
        token(TokenKind::User).to_string() + "\n",
    ];
    check_text("texts.txt", &texts.join("\n"));
}
