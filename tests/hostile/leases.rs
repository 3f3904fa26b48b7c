//! What a hostile server can do to a desktop by its leases: nothing outside of the attempt's own directory.

use serde_json::{Value, json};

use crate::fake_server::{Trap, exists_below};
use crate::rogue::hash;

fn input(path: &str) -> Value {
    json!({ "path": path, "hash": hash(b"input").to_string(), "size": 5 })
}

/// A client that seals files and one that doesn't: a machine that can't seal has only the second.
const SEAL: [&str; 2] = ["off", "auto"];

/// What makes a good lease a bad one.
type Change = Box<dyn FnOnce(&mut Value)>;

/// The kind of failure that a report tells.
fn kind(report: &Value) -> &str {
    report["failure"]["kind"].as_str().unwrap_or("none")
}

#[test]
fn paths_lead_nowhere_but_into_the_working_directory() {
    SEAL.into_iter().for_each(paths_lead_nowhere_but_into_the_working_directory_on);
}

fn paths_lead_nowhere_but_into_the_working_directory_on(seal: &str) {
    let mut trap = Trap::set(seal);
    let canary = trap.scratch.path().join("canary");
    let absolute = canary.to_str().expect("UTF-8").to_owned();
    let outside: [&str; 8] =
        ["../escaped", "../../escaped", "a/../../escaped", &absolute, "", ".", "a//b", "a\0b"];
    let leases = outside
        .iter()
        .zip(1..)
        .map(|(path, fence)| trap.lease(fence, |lease| lease["inputs"] = json!([input(path)])));
    let leases: Vec<Value> = leases.collect();
    for lease in leases {
        let reports = trap.give(vec![lease]);
        assert_eq!(kind(&reports[0]), "client_setup", "{}", reports[0]);
    }
    assert!(!canary.exists() && !exists_below(trap.scratch.path(), "escaped"));
    let good = trap.lease(99, |lease| lease["inputs"] = json!([input("a/b"), input("c")]));
    assert_eq!(kind(&trap.give(vec![good])[0]), "none");
}

#[test]
fn standard_input_and_outputs_are_files_of_the_subjob() {
    SEAL.into_iter().for_each(standard_input_and_outputs_are_files_of_the_subjob_on);
}

fn standard_input_and_outputs_are_files_of_the_subjob_on(seal: &str) {
    let mut trap = Trap::set(seal);
    let secret = trap.scratch.path().join("secret");
    std::fs::write(&secret, "secret").expect("written");
    let secret = secret.to_str().expect("UTF-8").to_owned();
    for (fence, path) in (1..).zip([secret.as_str(), "../../../secret", "/etc/shadow", ".."]) {
        let lease = trap.lease(fence, |lease| lease["stdin"] = json!(path));
        assert_eq!(kind(&trap.give(vec![lease])[0]), "client_setup", "{path}");
        let output = json!([{ "path": path, "optional": false }]);
        let lease = trap.lease(fence + 10, |lease| lease["outputs"] = output);
        let reports = trap.give(vec![lease]);
        assert_eq!((kind(&reports[0]), &reports[0]["outputs"]), ("client_setup", &json!([])), "{path}");
    }
    let good = trap.lease(99, |lease| {
        lease["stdin"] = json!("input");
        lease["outputs"] = json!([{ "path": "input", "optional": false }]);
    });
    let reports = trap.give(vec![good]);
    assert_eq!((kind(&reports[0]), &reports[0]["outputs"][0]["path"]), ("none", &json!("input")));
}

#[test]
fn a_lease_that_makes_no_sense_is_reported_and_survived() {
    SEAL.into_iter().for_each(a_lease_that_makes_no_sense_is_reported_and_survived_on);
}

fn a_lease_that_makes_no_sense_is_reported_and_survived_on(seal: &str) {
    let mut trap = Trap::set(seal);
    let huge = json!({ "secs": u64::MAX, "nanos": 0 });
    let changes: Vec<Change> = vec![
        Box::new(|lease| lease["inputs"] = json!([input("a"), input("a/b")])),
        Box::new(|lease| lease["inputs"] = json!([input("a/b"), input("a")])),
        Box::new(|lease| lease["inputs"] = json!([input("a"), input("a")])),
        Box::new(|lease| lease["inputs"][0]["size"] = json!(u64::MAX)),
        Box::new(|lease| lease["inputs"][0]["size"] = json!(4)),
        Box::new(|lease| lease["inputs"][0]["hash"] = json!(hash(b"other").to_string())),
        Box::new(|lease| lease["env"] = json!([["A=B", "x"]])),
        Box::new(|lease| lease["env"] = json!([["A", "x\0y"]])),
        Box::new(|lease| lease["command"] = json!([])),
        Box::new(|lease| lease["command"] = json!(["true", "a\0b"])),
        Box::new(|lease| lease["resources"] = json!({ "cpus": 0, "memory": 0, "disk": 0 })),
        Box::new(|lease| lease["resources"]["memory"] = json!(1)),
        Box::new(|lease| lease["resources"]["memory"] = json!(u64::MAX)),
        Box::new(|lease| lease["resources"]["cpus"] = json!(u32::MAX)),
        Box::new(|lease| lease["application_signature"] = json!("AAAA")),
        Box::new(|lease| lease["application"] = json!(hash(b"unsigned").to_string())),
        Box::new(|lease| lease["application_size"] = json!(1)),
        Box::new(|lease| lease["application_size"] = json!(u64::MAX)),
        Box::new(|lease| lease["network"] = json!({ "allow": ["127.0.0.1:22"], "rate": null })),
        Box::new(|lease| lease["secrets"] = json!({ "encapsulated_key": "", "ciphertext": "" })),
    ];
    for (fence, change) in (1..).zip(changes) {
        let lease = trap.lease(fence, change);
        let shown = lease.to_string();
        let reports = trap.give(vec![lease]);
        assert!(kind(&reports[0]) != "none", "{shown}\n{}", reports[0]);
    }
    let long = trap.lease(90, |lease| {
        lease["limits"]["runtime_max"] = huge;
        lease["limits"]["output"] = json!(u64::MAX);
    });
    assert_eq!(kind(&trap.give(vec![long])[0]), "none");
    assert!(trap.is_alive(), "{}", trap.log());
    assert!(!exists_below(&trap.state().join("attempts"), "work"), "nothing stays");
}

#[test]
fn more_leases_than_the_desktop_gives_are_refused() {
    SEAL.into_iter().for_each(more_leases_than_the_desktop_gives_are_refused_on);
}

fn more_leases_than_the_desktop_gives_are_refused_on(seal: &str) {
    let mut trap = Trap::set(seal);
    let leases: Vec<Value> = (1..=300).map(|fence| trap.lease(fence, |_| {})).collect();
    let reports = trap.give(leases);
    let refused = reports.iter().filter(|report| kind(report) == "client_setup").count();
    assert!(refused >= 200, "{refused} refused of {}", reports.len());
    let one = trap.lease(999, |_| {});
    assert_eq!(kind(&trap.give(vec![one])[0]), "none");
}
