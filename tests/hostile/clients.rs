//! A client with a valid key that lies, repeats itself, and asks for what is not its own.

use grid_tests::Grid;
use serde_json::json;

use crate::raw;
use crate::rogue::{Rogue, file, hash, inventory, join_secret, submit, success, usage};

/// The job's state once it has ended.
fn ended(grid: &Grid, job: &str) -> String {
    let state =
        |grid: &Grid| grid.cli(&["--json", "show", job]).json()["state"].as_str().unwrap_or("").to_owned();
    grid.wait_until("the job has ended", |grid| !matches!(state(grid).as_str(), "running" | "aggregating"));
    state(grid)
}

#[test]
fn an_honest_report_counts_once() {
    let grid = Grid::start(0);
    let job = submit(&grid, 1);
    let mut client = Rogue::join(&grid);
    let lease = client.lease();
    for _ in 0..2 {
        let reply = client.report(&success(&lease, "0\n"));
        assert_eq!((reply.status, &reply.json()["settled"]), (200, &json!([lease["fence"]])));
    }
    assert_eq!(ended(&grid, &job), "succeeded");
    assert_eq!(grid.cli(&["--json", "show", &job]).json()["counts"]["succeeded"], 1);
}

#[test]
fn times_beyond_all_bounds_stop_neither_the_server_nor_its_next_start() {
    let mut grid = Grid::start(0);
    let job = submit(&grid, 3);
    let mut rogue = Rogue::join(&grid);
    for _ in 0..3 {
        let lease = rogue.lease();
        let mut report = success(&lease, "0\n");
        report["usage"] = usage(u64::MAX, u64::MAX);
        report["usage"]["peak_memory"] = json!(u64::MAX);
        let reply = rogue.report(&report);
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    assert_eq!(ended(&grid, &job), "succeeded");
    grid.crash_server();
    assert_eq!(grid.cli(&["--json", "show", &job]).json()["state"], "succeeded");
}

#[test]
fn a_client_speaks_for_its_own_leases_alone() {
    let grid = Grid::start(0);
    let job = submit(&grid, 1);
    let (mut owner, mut thief) = (Rogue::join(&grid), Rogue::join(&grid));
    let lease = owner.lease();
    let reply = thief.report(&success(&lease, "stolen\n"));
    assert_eq!((reply.status, &reply.json()["cancel"]), (200, &json!([])));
    let blob = b"0123456789".as_slice();
    let upload = thief.upload(&lease["fence"], &hash(blob), 10, 0, blob);
    assert_eq!((upload.status, upload.code().as_str()), (403, "not_allowed"));
    assert_eq!(owner.upload(&lease["fence"], &hash(blob), 10, 0, blob).status, 200);
    assert_eq!(owner.report(&success(&lease, "mine\n")).status, 200);
    assert_eq!(ended(&grid, &job), "succeeded");
    assert_eq!(grid.cli(&["logs", &format!("{job}.0"), "--stdout"]).ok(), "mine\n");
}

#[test]
fn what_a_report_claims_about_files_is_checked() {
    let grid = Grid::start(0);
    submit(&grid, 1);
    let mut rogue = Rogue::join(&grid);
    let lease = rogue.lease();
    let mut check = |outputs: serde_json::Value, expect: (u16, &str)| {
        let mut report = success(&lease, "");
        report["outputs"] = outputs;
        let reply = rogue.report(&report);
        assert_eq!((reply.status, reply.code().as_str()), expect, "{}", reply.json());
    };
    let mut false_hash = file("stdout", b"x");
    false_hash["hash"] = json!(hash(b"y").to_string());
    check(json!([false_hash]), (400, "hash_mismatch"));
    let mut false_size = file("stdout", b"x");
    false_size["size"] = json!(2);
    check(json!([false_size.clone()]), (400, "hash_mismatch"));
    let mut absent = file("stdout", b"never uploaded");
    absent["inline"] = json!(null);
    check(json!([absent]), (409, "missing_blobs"));
    let many: Vec<_> = (0..100_000).map(|n| file(&format!("f{n}"), b"")).collect();
    check(json!(many), (413, "too_large"));
    check(json!([file("../../etc/passwd", b"x")]), (400, "bad_request"));
    check(json!([file("undeclared", b"x")]), (400, "bad_request"));
    check(json!([file("stdout", b"x"), file("stdout", b"y")]), (400, "bad_request"));
    check(json!([file("stdout", b"x"), file("stderr", b"")]), (200, ""));
}

#[test]
fn what_a_client_says_in_words_is_cut_and_can_not_command_a_terminal() {
    let grid = Grid::start(0);
    let job = submit(&grid, 1);
    let mut rogue = Rogue::join(&grid);
    let escape = "\u{1b}]0;owned\u{7}";
    let name = format!("{escape}{}", "n".repeat(1 << 20));
    assert_eq!(rogue.poll(|poll| poll["inventory"] = inventory(&name)).status, 200);
    let clients = grid.cli(&["clients"]).ok();
    assert!(clients.len() < 4_096 && clients.contains("owned") && !clients.contains('\u{1b}'));
    // The poll was also a request: its lease was on its way, and is lost with the next.
    let lease = rogue.lease();
    let why = format!("{escape}{}", "w".repeat(1 << 20));
    let failure = json!({ "kind": "client_setup", "why": why });
    let report = json!({ "fence": lease["fence"], "failure": failure, "outputs": [], "usage": usage(0, 0) });
    assert_eq!(rogue.report(&report).status, 200);
    let shown = grid.cli(&["show", &job]).ok();
    assert!(shown.len() < 16_384 && shown.contains("owned") && !shown.contains('\u{1b}'), "{shown}");
}

#[test]
fn a_client_can_not_report_what_only_the_server_can_know() {
    let grid = Grid::start(0);
    let job = submit(&grid, 1);
    let mut rogue = Rogue::join(&grid);
    let lease = rogue.lease();
    for kind in ["lease_lost", "lease_expired"] {
        let failure = json!({ "kind": kind });
        let report =
            json!({ "fence": lease["fence"], "failure": failure, "outputs": [], "usage": usage(0, 0) });
        let reply = rogue.report(&report);
        assert_eq!((reply.status, reply.code().as_str()), (400, "bad_request"), "{kind}");
    }
    assert_eq!(rogue.report(&success(&lease, "0\n")).status, 200);
    assert_eq!(ended(&grid, &job), "succeeded");
}

#[test]
fn a_lease_is_no_right_to_fill_the_server() {
    let grid = Grid::start(0);
    grid.file(
        "small.toml",
        "spec = 1\nname = 'small'\ncommand = ['echo', 'x']\nlimits = { output = '1MiB' }\n",
    );
    grid.cli(&["submit", "small.toml"]).ok();
    let mut rogue = Rogue::join(&grid);
    let lease = rogue.lease();
    let send = |number: u32, size: usize| {
        let blob: Vec<u8> = number.to_le_bytes().into_iter().cycle().take(size).collect();
        rogue.upload(&lease["fence"], &hash(&blob), size as u64, 0, &blob)
    };
    assert_eq!(send(0, (1 << 20) + 1).code(), "too_large");
    let taken = (1..100).take_while(|number| send(*number, 1 << 20).status == 200).count();
    assert!((1..=6).contains(&taken), "{taken} uploads of the whole limit were taken");
    assert_eq!(send(200, 1 << 20).code(), "too_large");
}

#[test]
fn a_request_is_good_for_what_was_signed() {
    let grid = Grid::start(0);
    let (mut rogue, other) = (Rogue::join(&grid), Rogue::join(&grid));
    let path = format!("/v1/client/blobs/{}", hash(b"x"));
    let signature = rogue.sign("GET", &path, b"");
    assert_eq!(rogue.send_signed("GET", &path, b"", &signature).status, 404);
    let elsewhere = format!("/v1/client/blobs/{}", hash(b"y"));
    for reply in [
        rogue.send_signed("GET", &elsewhere, b"", &signature),
        rogue.send_signed("GET", &format!("{path}?"), b"", &signature),
        rogue.send_signed("PUT", &format!("{path}?total=1&offset=0&fence=1"), b"", &signature),
        other.send_signed("GET", &path, b"", &signature),
        rogue.send_signed("GET", &path, b"", ""),
        rogue.send_signed("GET", &path, b"", "AAAA"),
        Rogue::stranger(&grid).send("GET", &path, b""),
    ] {
        assert_eq!((reply.status, reply.code().as_str()), (401, "not_logged_in"), "{reply:?}");
    }
    assert_eq!(rogue.send_signed("GET", &path, b"body", &signature).code(), "too_large");
    let secret = join_secret(&grid);
    assert_eq!(rogue.register(&secret, &other.key.public()).status, 400);
    assert_eq!(rogue.register(&secret, &rogue.key.public()).status, 200);
    assert_eq!(rogue.poll(|_| {}).status, 200);
}

#[test]
fn a_token_for_one_client_makes_one_client() {
    let grid = Grid::start(0);
    let token = grid.cli(&["token", "create", "join", "--uses", "1"]).ok();
    let token = protocol::token::Token::parse(&token, protocol::token::TokenKind::Join).expect("a token");
    let rogues: Vec<Rogue> = (0..8).map(|_| Rogue::stranger(&grid)).collect();
    let joined: usize = std::thread::scope(|scope| {
        let join = |rogue: &Rogue| rogue.register(&token.secret_text(), &rogue.key.public()).status == 200;
        let threads: Vec<_> = rogues.iter().map(|rogue| scope.spawn(move || join(rogue))).collect();
        threads.into_iter().map(|thread| usize::from(thread.join().expect("no panic"))).sum()
    });
    assert_eq!(joined, 1);
}

#[test]
fn sequence_numbers_only_grow() {
    let grid = Grid::start(0);
    submit(&grid, 2);
    let mut rogue = Rogue::join(&grid);
    let seq = rogue.seq + 1;
    let lease = rogue.lease();
    let again = rogue.poll(|poll| {
        poll["seq"] = json!(seq);
        poll["answered"] = json!(seq - 1);
    });
    assert_eq!(again.json()["leases"][0]["fence"], lease["fence"], "a repeated poll gets the same lease");
    let older = rogue.poll(|poll| poll["seq"] = json!(1));
    assert_eq!((older.status, older.code().as_str()), (409, "stale_sequence"));
    let last = rogue.poll(|poll| poll["seq"] = json!(u64::MAX));
    assert_eq!(last.status, 200);
    assert_eq!(rogue.poll(|_| {}).code(), "stale_sequence");
    // Nobody else is concerned.
    assert_eq!(Rogue::join(&grid).poll(|_| {}).status, 200);
}

#[test]
fn polls_that_are_no_polls_are_refused_and_forgotten() {
    let grid = Grid::start(0);
    let mut rogue = Rogue::join(&grid);
    let bodies: [&[u8]; 7] = [
        b"",
        b"{}",
        b"[[[[",
        b"\xff\xfe",
        b"{\"seq\":1e999}",
        b"{\"seq\":-1,\"answered\":0}",
        b"{\"seq\":NaN}",
    ];
    for body in bodies {
        assert_eq!(rogue.send("POST", "/v1/poll", body).code(), "bad_request", "{body:?}");
    }
    let deep = "[".repeat(1 << 20);
    assert_eq!(rogue.send("POST", "/v1/poll", deep.as_bytes()).code(), "bad_request");
    for value in [json!(-1), json!(1.5), json!(null), json!("2"), json!(u64::from(u32::MAX) + 1)] {
        let reply = rogue.poll(|poll| poll["capacity"]["cpus"] = value.clone());
        assert_eq!(reply.code(), "bad_request", "{value}");
    }
    let many: Vec<u64> = (0..1_000).collect();
    assert_eq!(rogue.poll(|poll| poll["held"] = json!(many)).code(), "too_large");
    let reply = rogue.poll(|poll| poll["held"] = json!([1, 1, 2, u64::MAX]));
    assert_eq!((reply.status, &reply.json()["cancel"]), (200, &json!([1, 2, u64::MAX])));
    assert_eq!(raw::request(&grid.url, "GET", "/v1/health", &[], b"").status, 200);
}

#[test]
fn of_many_polls_at_once_one_is_held() {
    let grid = Grid::start(0);
    let rogue = Rogue::join(&grid);
    let poll = |seq: u64, wait_s: u32| {
        let capacity = json!({ "cpus": 1, "memory": 1, "disk": 1 });
        let poll = json!({
            "seq": seq, "answered": 0, "capacity": capacity, "held": [], "reports": [], "inventory": null,
            "wait_s": wait_s,
        });
        rogue.send("POST", "/v1/poll", poll.to_string().as_bytes()).status
    };
    std::thread::scope(|scope| {
        let held: Vec<_> = (0..20).map(|_| scope.spawn(|| poll(5_000, u32::MAX))).collect();
        // The last one, which is answered at once, ends whichever was held.
        let ended = std::iter::repeat_with(|| poll(5_000, 0)).take(20).all(|status| status == 200);
        assert!(ended && held.into_iter().all(|thread| thread.join().expect("no panic") == 200));
    });
}
