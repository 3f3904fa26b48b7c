//! The manual of the command line against the program's own help: every command, option, variable and exit code.

use std::process::Command;

const MANUAL: &str = include_str!("../../../docs/manual/command-line.md");

fn help(path: &[String]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_dcgrid")).args(path).arg("--help").output();
    let output = output.expect("it can be started");
    assert!(output.status.success(), "{path:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// The first words of the lines of one part of a help text.
fn entries(help: &str, part: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != part).skip(1);
    let lines = lines.take_while(|line| line.starts_with(' ') || line.is_empty());
    let entries = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    entries.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// The long options that a help text names at the start of a line.
fn options(help: &str) -> Vec<String> {
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let long = lines.filter_map(|line| line.split([' ', ',', '.', '=']).find(|word| word.starts_with("--")));
    long.map(str::to_owned).collect()
}

/// The manual's text below a heading, up to the next.
fn section(heading: &str) -> &'static str {
    let start = MANUAL.find(&format!("\n## {heading}\n"));
    let rest = &MANUAL[start.unwrap_or_else(|| panic!("the manual has no '## {heading}'")) + 1..];
    rest.find("\n## ").map_or(rest, |end| &rest[..end])
}

fn check_command(path: &[String]) {
    let help = help(path);
    let common = section("Options of all commands");
    let own = section(&format!("`dcgrid {}`", path[0]));
    assert!(own.contains(&path.join(" ")), "the manual does not mention 'dcgrid {}'", path.join(" "));
    for option in options(&help) {
        let is_there =
            |text: &str| text.contains(&format!("`{option}`")) || text.contains(&format!("`{option} "));
        let is_after_short = own.contains(&format!(", `{option} "));
        assert!(
            is_there(common) || is_there(own) || is_after_short,
            "{path:?}: {option} is not in the manual"
        );
    }
    for text in help.split("[env: ").skip(1) {
        let variable = text.split(['=', ']']).next().unwrap_or_default();
        let variables = section("Environment variables");
        assert!(variables.contains(&format!("`{variable}`")), "{path:?}: {variable} is not in the manual");
    }
    check_commands_below(path);
}

fn check_commands_below(path: &[String]) -> usize {
    let below = entries(&help(path), "Commands:");
    for command in below.iter().filter(|command| *command != "help") {
        check_command(&[path, std::slice::from_ref(command)].concat());
    }
    below.len()
}

#[test]
fn the_manual_has_every_command_and_option() {
    assert!(check_commands_below(&[]) > 15, "the commands are found in the help");
}

#[test]
fn the_manual_has_every_exit_code() {
    let source = include_str!("../src/exit.rs");
    let codes: Vec<&str> = source
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.strip_suffix(',')?.split_once(" = "))
        .map(|(_, code)| code)
        .filter(|code| code.parse::<u8>().is_ok())
        .collect();
    assert!(codes.len() >= 10, "the codes are found in the source: {codes:?}");
    for code in codes {
        assert!(section("Exit codes").contains(&format!("\n| {code} | ")), "exit code {code}");
    }
}
