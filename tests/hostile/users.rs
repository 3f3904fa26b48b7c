//! A user with a good token who wants what is others', or to keep the server busy.

use grid_tests::Grid;
use model::plan::Content;
use protocol::api::MAX_PART;
use protocol::manifest::{Entry, FileKind, MANIFEST_VERSION, Manifest};
use serde_json::{Value, json};

use crate::raw::{Reply, call, request};
use crate::rogue::{Rogue, hash, submit, success, user_secret};

fn upload(grid: &Grid, secret: &str, bytes: &[u8]) {
    let authorization = format!("Bearer {secret}");
    let mut complete = false;
    for (number, part) in bytes.chunks(MAX_PART).enumerate() {
        let offset = number * MAX_PART;
        let path = format!("/v1/blobs/{}?total={}&offset={offset}", hash(bytes), bytes.len());
        let reply = request(&grid.url, "PUT", &path, &[("authorization", &authorization)], part);
        complete = reply.json()["complete"] == true;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    assert!(complete);
}

/// A manifest of one program, after `change`.
fn manifest(change: impl FnOnce(&mut Manifest)) -> Vec<u8> {
    let program = Entry::File { hash: hash(b"program"), size: 7, kind: FileKind::Program };
    let mut manifest = Manifest {
        version: MANIFEST_VERSION,
        name: "p".into(),
        program: "/bin/p".into(),
        entries: [("/bin/p".to_owned(), program)].into(),
    };
    change(&mut manifest);
    manifest.encode()
}

fn submit_spec(grid: &Grid, secret: &str, manifest: &[u8], spec: &Value, key: &str) -> Reply {
    upload(grid, secret, b"program");
    upload(grid, secret, manifest);
    let body = json!({
        "spec": spec, "files": {}, "application": hash(manifest).to_string(), "idempotency_key": key,
    });
    call(&grid.url, secret, "POST", "/v1/jobs", &body)
}

fn spec() -> Value {
    json!({ "spec": 1, "name": "s", "command": ["p"] })
}

#[test]
fn the_jobs_of_others_are_as_if_they_were_not() {
    let grid = Grid::start(0);
    let job = submit(&grid, 1);
    let mut client = Rogue::join(&grid);
    let lease = client.lease();
    assert_eq!(client.report(&success(&lease, "private\n")).status, 200);
    let own = |path: &str| grid.cli(&["logs", path, "--stdout"]).ok();
    assert_eq!(own(&format!("{job}.0")), "private\n");
    let mallory = user_secret(&grid, "mallory");
    let at = |method: &str, path: &str| call(&grid.url, &mallory, method, path, &Value::Null);
    for (method, path) in [
        ("GET", format!("/v1/jobs/{job}")),
        ("GET", format!("/v1/jobs/{job}?after=0&wait_s=1")),
        ("GET", format!("/v1/jobs/{job}/details")),
        ("GET", format!("/v1/jobs/{job}/subjobs")),
        ("GET", format!("/v1/jobs/{job}/subjobs/0/files/stdout")),
        ("GET", format!("/v1/jobs/{job}/result")),
        ("GET", format!("/v1/jobs/{job}/result/all")),
        ("POST", format!("/v1/jobs/{job}/cancel")),
    ] {
        let others = at(method, &path);
        let nobodys = at(method, &path.replace(&format!("jobs/{job}"), "jobs/77"));
        let same = |reply: &Reply| (reply.status, reply.code());
        assert_eq!(same(&others), (404, "not_found".to_owned()), "{method} {path}");
        assert_eq!(same(&others), same(&nobodys), "{path} tells that there is a job");
    }
    assert_eq!(at("GET", "/v1/jobs").json(), json!([]));
    for (method, path) in [("GET", "/v1/tokens"), ("POST", "/v1/tokens"), ("DELETE", "/v1/tokens/1")] {
        let body = json!({ "grants": { "kind": "join" } });
        assert_eq!(call(&grid.url, &mallory, method, path, &body).status, 403, "{method} {path}");
    }
    let revoke = format!("/v1/clients/{}/revoke", client.id());
    assert_eq!(at("POST", &revoke).status, 403);
}

#[test]
fn one_key_of_two_users_makes_two_jobs() {
    let grid = Grid::start(0);
    let (alice, bob) = (user_secret(&grid, "alice"), user_secret(&grid, "bob"));
    let plain = manifest(|_| {});
    let job = |secret: &str| submit_spec(&grid, secret, &plain, &spec(), "same").json()["job"].clone();
    let (first, second) = (job(&alice), job(&bob));
    assert!(first.is_u64() && second.is_u64() && first != second);
    assert_eq!((job(&alice), job(&bob)), (first, second));
}

#[test]
fn a_manifest_can_not_reach_out_of_its_root_nor_keep_the_server_busy() {
    let grid = Grid::start(0);
    let mallory = user_secret(&grid, "mallory");
    let file = || Entry::File { hash: hash(b"program"), size: 7, kind: FileKind::Program };
    let check = |bytes: &[u8], expect: (u16, &str)| {
        let reply = submit_spec(&grid, &mallory, bytes, &spec(), "k");
        assert_eq!((reply.status, reply.code().as_str()), expect, "{}", reply.json());
    };
    let bad = (400, "bad_spec");
    for path in ["/../etc/cron.d/x", "etc/x", "/a/./b", "/", "//x", "/a\0"] {
        check(&manifest(|m| drop(m.entries.insert(path.to_owned(), file()))), bad);
    }
    let link = || Entry::Symlink { target: "/etc".to_owned() };
    check(&manifest(|m| m.entries.extend([("/x".into(), link()), ("/x/shadow".into(), file())])), bad);
    check(&manifest(|m| m.entries.extend((0..200_000).map(|n| (format!("/f{n}"), file())))), bad);
    check(&manifest(|m| drop(m.entries.insert("/d".repeat(1 << 20), file()))), bad);
    let long_link = Entry::Symlink { target: "../".repeat(1 << 20) };
    check(&manifest(|m| m.entries.extend([("/l".into(), long_link)])), bad);
    check(&manifest(|m| m.program = "/bin/../bin/q".to_owned()), bad);
    check(&manifest(|m| m.version = u32::MAX), bad);
    check(&[b'['; 1 << 20], bad);
    let absent = Entry::File { hash: hash(b"absent"), size: 1, kind: FileKind::Data };
    check(&manifest(|m| drop(m.entries.insert("/absent".to_owned(), absent))), (409, "missing_blobs"));
    let liar = Entry::File { hash: hash(b"program"), size: 8, kind: FileKind::Data };
    check(&manifest(|m| drop(m.entries.insert("/liar".to_owned(), liar))), bad);
    check(&manifest(|_| {}), (200, ""));
}

#[test]
fn a_spec_can_not_keep_the_server_busy_nor_reach_out_of_a_directory() {
    let grid = Grid::start(0);
    let mallory = user_secret(&grid, "mallory");
    let plain = manifest(|_| {});
    let check = |changes: Value| {
        let mut spec = spec();
        for (key, value) in changes.as_object().expect("an object") {
            spec[key] = value.clone();
        }
        let reply = submit_spec(&grid, &mallory, &plain, &spec, "k");
        assert_eq!((reply.status, reply.code().as_str()), (400, "bad_spec"), "{changes}: {}", reply.json());
    };
    check(json!({ "outputs": ["../x"] }));
    check(json!({ "outputs": ["/etc/passwd"] }));
    check(json!({ "outputs": ["{sweep.a}"], "sweep": { "values": { "a": ["../x", "y"] } } }));
    check(json!({ "stdin": "../../etc/shadow" }));
    check(json!({ "inputs": { "a": { "path": "x", "as": "../x" } } }));
    check(json!({ "repeat": { "times": u64::MAX, "seed": 0 } }));
    let range = json!({ "range": [1, 100_000] });
    let values: Value =
        ('a'..='h').map(|name| (name.to_string(), range.clone())).collect::<serde_json::Map<_, _>>().into();
    check(
        json!({ "command": ["p", "{sweep.a}{sweep.b}"], "sweep": { "mode": "product", "values": values } }),
    );
    check(json!({ "command": ["p", "{".repeat(1 << 20)] }));
    check(json!({ "resources": { "cpus": 0 } }));
    check(json!({ "limits": { "runtime_max": "99999999999999999999d" } }));
    check(json!({ "env": { "A=B": "x" } }));
    let blow_up = "(((((a{1,99}){1,99}){1,99}){1,99}){1,99}){1,99}";
    check(
        json!({ "aggregate": { "how": "table", "from": "stdout", "out": "t", "row": blow_up, "columns": [] } }),
    );
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let body = format!(
        r#"{{"spec":{{"spec":1,"command":{deep}}},"application":"{}","idempotency_key":"d"}}"#,
        hash(&plain)
    );
    let authorization = format!("Bearer {mallory}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let reply = request(&grid.url, "POST", "/v1/jobs", &headers, body.as_bytes());
    assert_eq!(reply.status, 400, "{reply:?}");
    let long = format!("spec = 1\ncommand = ['p', '{}']\n", "x".repeat(5 << 20));
    let body = json!({ "spec_toml": long, "application": hash(&plain).to_string(), "idempotency_key": "t" });
    assert_eq!(call(&grid.url, &mallory, "POST", "/v1/jobs", &body).status, 400);
    assert_eq!(submit_spec(&grid, &mallory, &plain, &spec(), "k").status, 200);
}

#[test]
fn an_upload_that_another_began_is_no_obstacle() {
    let grid = Grid::start(0);
    let (mallory, alice) = (user_secret(&grid, "mallory"), user_secret(&grid, "alice"));
    let file: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
    let put = |secret: &str, total: usize, offset: usize, part: &[u8]| {
        let path = format!("/v1/blobs/{}?total={total}&offset={offset}", hash(&file));
        let authorization = format!("Bearer {secret}");
        request(&grid.url, "PUT", &path, &[("authorization", &authorization)], part)
    };
    // As much as the whole, of a total that is a lie: it stands there as if it were complete.
    let squat = put(&mallory, file.len() + 1, 0, &vec![0; file.len()]);
    assert_eq!((squat.status, &squat.json()["complete"]), (200, &json!(false)));
    grid.file("data", &file);
    let login = grid.file("alice.json", login_of(&grid, &alice));
    let mut run = grid.command(&["submit", "data.toml"]);
    grid.file("data.toml", "spec = 1\nname = 'd'\ncommand = ['cat', 'data']\ninputs = { data = 'data' }\n");
    grid_tests::run(run.env("DCGRID_LOGIN", login)).ok();
    let other: Vec<u8> = file.iter().rev().copied().collect();
    let put_other = |secret: &str, offset: usize, part: &[u8]| {
        let path = format!("/v1/blobs/{}?total={}&offset={offset}", hash(&other), other.len());
        let authorization = format!("Bearer {secret}");
        request(&grid.url, "PUT", &path, &[("authorization", &authorization)], part)
    };
    // Wrong bytes at the start: whoever goes on is told at the end, and begins anew.
    assert_eq!(put_other(&mallory, 0, &[1; 100]).status, 200);
    grid.file("data", &other);
    let mut run = grid.command(&["submit", "data.toml"]);
    grid_tests::run(run.env("DCGRID_LOGIN", grid.scratch.path().join("alice.json"))).ok();
}

/// The administrator's login file with another token.
fn login_of(grid: &Grid, secret: &str) -> String {
    let text = std::fs::read_to_string(grid.login_file()).expect("a login file");
    let mut login: Value = serde_json::from_str(&text).expect("JSON");
    let token = login["token"].as_str().expect("a token").to_owned();
    let mut token: protocol::token::Token = token.parse().expect("a token");
    token.secret = protocol::token::decode_secret(secret).expect("a secret");
    login["token"] = json!(token.to_string());
    login.to_string()
}

#[test]
fn files_can_not_be_had_by_a_name_that_lies() {
    let grid = Grid::start(0);
    let mallory = user_secret(&grid, "mallory");
    let plain = manifest(|_| {});
    upload(&grid, &mallory, &plain);
    let lie = Content { hash: hash(b"program"), size: 70 };
    upload(&grid, &mallory, b"program");
    let body = json!({
        "spec": { "spec": 1, "name": "s", "command": ["p", "a"], "inputs": { "a": "a" } },
        "files": { "a": lie }, "application": hash(&plain).to_string(), "idempotency_key": "k",
    });
    let reply = call(&grid.url, &mallory, "POST", "/v1/jobs", &body);
    let detail = reply.json()["detail"].to_string();
    assert!(reply.code() == "bad_spec" && detail.contains("has 7 bytes, not 70"), "{detail}");
    let bearer = format!("Bearer {mallory}");
    let long = vec![0u8; (4 << 20) + 1];
    let path = format!("/v1/blobs/{}?total={}&offset=0", hash(&long), long.len());
    assert_eq!(request(&grid.url, "PUT", &path, &[("authorization", &bearer)], &long).code(), "too_large");
    for query in ["total=-1&offset=0", "total=1&offset=99999999999999999999", "total=1", ""] {
        let path = format!("/v1/blobs/{}?{query}", hash(b"program"));
        assert_eq!(request(&grid.url, "PUT", &path, &[("authorization", &bearer)], b"x").status, 400);
    }
    assert_eq!(request(&grid.url, "GET", "/v1/whoami", &[("authorization", &bearer)], b"").status, 200);
}
