//! `dcgrid evm explain` says what the sandbox is built from.

use crate::bench::Bench;

fn explain(args: &[&str]) -> serde_json::Value {
    let bench = Bench::new();
    let output = bench.command(&[&["explain", "--json"], args].concat()).output().expect("it can be started");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn every_rule_and_every_finding_is_told() {
    let found = explain(&[]);
    let rules = found["system_calls"].as_array().expect("a list");
    assert_eq!(rules.len(), sandbox::filter_rules().count());
    assert!(
        rules.iter().all(|rule| rule["reason"].as_str().is_some_and(|reason| reason.len() > 3)),
        "{rules:?}"
    );
    let findings = found["enforced"].as_array().expect("a list");
    let names = |finding: &serde_json::Value| finding["what"].as_str().map(str::to_owned);
    let expected: Vec<_> = sandbox::probe().iter().map(|finding| Some(finding.what.to_owned())).collect();
    assert_eq!(findings.iter().map(names).collect::<Vec<_>>(), expected);
    assert_eq!(found["application"], serde_json::Value::Null);
}

#[test]
fn every_mount_of_a_program_is_told() {
    let found = explain(&[]);
    let told: Vec<&str> =
        found["places"].as_array().expect("a list").iter().filter_map(|p| p["path"].as_str()).collect();
    let ran = Bench::new().run(&["--", "cat", "/proc/self/mountinfo"]);
    let mounts: Vec<(&str, &str)> = ran.stdout.lines().filter_map(mount).collect();
    assert!(mounts.len() > 20, "{ran:?}");
    for (path, options) in mounts {
        // Those that hold the application's code: they are named with a program.
        let is_code = options.starts_with("ro,") && !options.contains("noexec");
        assert!(is_code || told.contains(&path) || path == "/.evm", "{path} is not told of");
        assert!(is_code || options.contains("noexec"), "{path} {options}");
    }
}

/// Prints of each place in a file whether something is to be read there, and whether it can be written to.
const TRY_PLACES: &str = r#"
mapfile -t places < places
for place in "${places[@]}"; do
    may=
    file=$place
    if [ -d "$place" ]; then
        ls "$place" > /dev/null && [ -n "$(ls -A "$place")" ] && may=read
        file=$place/tried
        # In which nobody makes files, but where those of one's own processes have modes that let them be written.
        [ "$place" = /proc ] && file=/proc/self/comm
    else
        [ "$(head -c 1 "$place" | wc -c)" = 1 ] && may=read
    fi 2> /dev/null
    (: >> "$file") 2> /dev/null && may="$may write"
    echo "$place:$may"
done
"#;

/// Told as writable, and written to by calls of their own: mq_open, posix_openpt.
const BY_CALLS: [&str; 2] = ["/dev/mqueue", "/dev/pts"];

#[test]
fn what_is_told_of_a_place_is_what_a_program_can_do_there() {
    let found = explain(&[]);
    let places = found["places"].as_array().expect("a list");
    let text = |place: &serde_json::Value, key: &str| place[key].as_str().expect("text").to_owned();
    let told: Vec<(String, String)> = places.iter().map(|p| (text(p, "path"), text(p, "access"))).collect();
    let bench = Bench::new();
    let list: String = told.iter().map(|(path, _)| format!("{path}\n")).collect();
    bench.file("places", &list);
    let ran = bench.run(&["-i", "places", "--", "bash", "-c", TRY_PLACES]);
    let tried: Vec<(&str, &str)> = ran.stdout.lines().filter_map(|line| line.split_once(':')).collect();
    assert_eq!(tried.len(), told.len(), "{ran:?}");
    for ((path, access), (tried, may)) in told.iter().zip(tried) {
        assert_eq!(path, tried);
        let (can_read, can_write) = (may.contains("read"), may.contains("write"));
        let is_true = match access.as_str() {
            "read" => !can_write,
            "read, write" => can_write || BY_CALLS.contains(&path.as_str()),
            "empty" => !can_read && !can_write,
            "made up" => can_read && !can_write,
            other => panic!("{path}: {other} is not known here"),
        };
        assert!(is_true, "{path} is told as '{access}', and a program can '{may}'");
    }
    let access =
        |wanted: &str| told.iter().find(|(path, _)| path == wanted).map(|(_, access)| access.as_str());
    // All of the above would hold of an empty table too.
    assert!(["/work", "/tmp"].iter().all(|path| access(path) == Some("read, write")), "{told:?}");
}

#[test]
fn an_argument_that_names_a_file_of_the_kernel_keeps_nobody_waiting() {
    Bench::new().run(&["--", "bash", "-c", "echo $1", "_", "/proc/kmsg"]).check(0, "/proc/kmsg\n", "");
}

/// Where a mount is and its options; proc_pid_mountinfo(5).
fn mount(line: &str) -> Option<(&str, &str)> {
    let mut fields = line.split(' ').skip(4);
    Some((fields.next()?, fields.next()?))
}

#[test]
fn a_program_is_told_with_what_it_may_start_and_load() {
    let found = explain(&["sort"]);
    let application = &found["application"];
    assert_eq!(application["program"], "/usr/bin/sort");
    assert!(application["programs"].as_array().is_some_and(|all| all.contains(&"/usr/bin/sort".into())));
    let libraries = application["libraries"].to_string();
    assert!(libraries.contains("libc.so.6") && application["makes_code"] == false, "{application}");
}

#[test]
fn people_get_tables() {
    let output = Bench::new().command(&["explain"]).output().expect("it can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    for part in [
        "PLACES",
        "\n/proc/kcore\tempty\t",
        "LIMITS",
        "SYSTEM CALLS",
        "ENFORCED",
        "\topenat",
        "--memory\t1 GiB",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}
