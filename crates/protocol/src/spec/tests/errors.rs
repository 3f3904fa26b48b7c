//! What a person reads when a spec is wrong.

use std::path::Path;

use super::super::{Document, MAX_SPEC_BYTES, Spec};
use super::{files, golden, resolved};

/// Each spec of the golden file with its errors.
fn cases(text: &str) -> Vec<(&str, &str)> {
    text.split("#### spec\n").skip(1).filter_map(|case| case.split_once("#### errors\n")).collect()
}

#[test]
fn errors_say_what_is_wrong_and_where() {
    let golden_text = include_str!("errors.txt");
    let (head, _) = golden_text.split_once("#### spec\n").expect("at least one spec");
    let mut files = files().with("ragged.csv", "temp,b\n1,2\n3\n");
    let mut text = head.to_owned();
    for (spec, _) in cases(golden_text) {
        let errors = resolved(spec.trim_end_matches('\n'), &mut files).expect_err(spec);
        text.push_str(&format!("#### spec\n{spec}#### errors\n{errors}\n\n"));
    }
    golden::check(Path::new("src/spec/tests/errors.txt"), golden_text, &text);
}

#[test]
fn errors_in_json_have_places_too() {
    let check = |text: &str, expect: &str| {
        let errors = Document::json("job.json", text).and_then(|document| Spec::read(&document));
        assert_eq!(errors.expect_err(text).to_string(), expect);
    };
    check(
        "{\n  \"spec\": 1,\n  \"comand\": [\"x\"]\n}",
        "job.json:3:4: unknown key 'comand'\n 3 |   \"comand\": [\"x\"]\n   |    ^^^^^^\nhelp: did you mean 'command'?",
    );
    check(
        "{\"spec\": 1, \"command\": [\"x\", null]}",
        "job.json:1:30: expected a string or a number, found null\n 1 | {\"spec\": 1, \"command\": [\"x\", null]}\n   |                              ^^^^",
    );
    check(
        "{\"spec\": 1,\n \"command\": [\"x\" \"y\"]}",
        "job.json:2:18: expected `,` or `]`\n 2 |  \"command\": [\"x\" \"y\"]}\n   |                  ^",
    );
    check(
        "{\"spec\": 1, \"spec\": 1}",
        "job.json:1:14: key 'spec' is there twice\n 1 | {\"spec\": 1, \"spec\": 1}\n   |              ^^^^",
    );
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let error = Document::json("job.json", &deep).expect_err("too deep").to_string();
    assert!(error.starts_with("job.json:1:17: nested more than 16 deep\n"), "{error}");
}

#[test]
fn a_spec_inside_a_message_tells_its_keys() {
    let error = serde_json::from_str::<Spec>(r#"{"spec": 1, "command": ["x"], "resources": {"cpus": 0}}"#);
    let error = error.expect_err("no processor").to_string();
    assert!(error.starts_with("resources.cpus: expected a whole number from 1 to 4096, found 0"), "{error}");
}

#[test]
fn a_spec_has_a_bound() {
    let error =
        Document::toml("big.toml", &" ".repeat(MAX_SPEC_BYTES + 1)).expect_err("too long").to_string();
    let expect = "big.toml has 1048577 bytes, more than 1048576\n\
                  help: put long parameter lists into a table file (sweep.table)";
    assert_eq!(error, expect);
}

#[test]
fn what_is_compared_pair_by_pair_has_a_bound() {
    let check = |text: &str, expect: &str| {
        let errors = resolved(text, &mut files()).expect_err("too many").to_string();
        assert!(errors.contains(expect), "{errors}");
    };
    let outputs = (0..257).map(|n| format!("'f{n}'")).collect::<Vec<_>>().join(", ");
    check(
        &format!("spec = 1\ncommand = 'x'\noutputs = [{outputs}]"),
        "257 entries are more than the 256 there may be",
    );
    let values = (0..65).map(|n| format!("v{n} = [1]")).collect::<Vec<_>>().join(", ");
    check(
        &format!("spec = 1\ncommand = 'x'\nsweep.values = {{ {values} }}"),
        "65 entries are more than the 64 there may be",
    );
    let inputs = (0..1_025).map(|n| format!("i{n} = 'query.hmm'")).collect::<Vec<_>>().join(", ");
    check(
        &format!("spec = 1\ncommand = 'x'\ninputs = {{ {inputs} }}"),
        "1025 entries are more than the 1024 there may be",
    );
}

#[test]
fn inputs_must_fit_the_subjob_s_disk() {
    let spec = |disk: &str| {
        format!(
            "spec = 1\ncommand = ['x', '{{in.hmm}}', '{{chunk}}']\ninputs = {{ hmm = 'query.hmm', db = 'db.fa' }}\n\
             split = {{ input = 'db', format = 'fasta', parts = 3 }}\nresources = {{ disk = '{disk}' }}\n"
        )
    };
    assert!(resolved(&spec("9B"), &mut files()).is_ok());
    let errors = resolved(&spec("8B"), &mut files()).unwrap_err().to_string();
    assert!(
        errors.contains("search.toml:5:22: the inputs of a subjob take up to 9 B, more than its disk of 8 B"),
        "{errors}"
    );
}
