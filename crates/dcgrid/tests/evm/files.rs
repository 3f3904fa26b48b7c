//! What goes into /work and comes out of it.

use std::os::unix::fs::symlink;

use crate::bench::Bench;

#[test]
fn a_directory_goes_in_as_a_copy_and_stays_as_it_is() {
    let bench = Bench::new();
    bench.file("project/data", "old\n");
    bench.file("project/sub/other", "other\n");
    let before = std::fs::metadata(bench.path("project")).expect("there");
    let text = "cat data sub/other; echo new > data; echo more > made";
    let args = ["--workdir", "project", "--", "sh", "-c", text];
    bench.run(&args).check(0, "old\nother\n", "");
    assert_eq!(bench.read("project/data"), "old\n");
    assert!(!bench.path("project/made").exists());
    let after = std::fs::metadata(bench.path("project")).expect("there");
    let owner = |found: &std::fs::Metadata| std::os::unix::fs::MetadataExt::uid(found);
    assert_eq!((owner(&before), before.permissions()), (owner(&after), after.permissions()));
    // Only when asked for does anything come back.
    bench.run(&[&["--write-back"], &args[..]].concat()).check(0, "old\nother\n", "");
    assert_eq!((bench.read("project/data"), bench.read("project/made")), ("new\n".into(), "more\n".into()));
    bench.run(&["--keep", "kept", "--", "sh", "-c", "mkdir d; echo x > d/f"]).check(0, "", "");
    assert_eq!(bench.read("kept/d/f"), "x\n");
}

#[test]
fn a_program_can_not_write_where_it_likes_through_what_is_copied_back() {
    let bench = Bench::new();
    let outside = bench.file("outside/kept", "kept");
    std::fs::create_dir_all(bench.path("project")).expect("made");
    symlink(bench.path("outside"), bench.path("project/link")).expect("linked");
    let args = ["--workdir", "project", "--write-back", "--", "sh", "-c"];
    let replace = "rm link; mkdir link; echo overwritten > link/kept";
    let ran = bench.run(&[&args[..], &[replace]].concat());
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert_eq!(std::fs::read_to_string(&outside).expect("there"), "kept");
    let links = format!("ln -s {} hole; ln -s / root", outside.display());
    let ran = bench.run(&[&args[..], &[&links]].concat());
    assert!(ran.code == Some(0) && ran.stderr.contains("3 entries of /work are links"), "{ran:?}");
    assert!(!bench.path("project/hole").exists() && !bench.path("project/root").exists());
}

#[test]
fn only_plain_files_are_taken_out() {
    let bench = Bench::new();
    let check = |text: &str, message: &str| {
        let ran = bench.run(&["-o", "out", "--", "sh", "-c", text]);
        assert!(ran.code == Some(125) && ran.stderr.contains(message), "{ran:?}");
        assert!(!bench.path("out").exists());
    };
    check("true", "the program did not write 'out'");
    check("ln -s /etc/hostname out", "'out' is or goes through a symbolic link");
    check("mkdir out", "'out' is not a regular file");
    let ran = bench.run(&["-o", "../out", "--", "true"]);
    assert!(ran.code == Some(125) && ran.stderr.contains("'../out' leads out of /work"), "{ran:?}");
    // A program that failed is not blamed for what it did not write; what it did is taken.
    bench.run(&["-o", "a", "-o", "b", "--", "sh", "-c", "echo x > b; exit 3"]).check(3, "", "");
    assert_eq!(bench.read("b"), "x\n");
}

#[test]
fn hostile_names_go_in_and_out() {
    let bench = Bench::new();
    for name in ["with space", "new\nline", "-rf", "é", "'\"$(x)`", "*"] {
        bench.file(name, name);
        let input = format!("./{name}");
        let ran = bench.run(&["-i", &input, "-o", "out", "--", "sh", "-c", "cat \"$1\" > out", "sh", &input]);
        ran.check(0, "", "");
        assert_eq!(bench.read("out"), name);
    }
    let ran = bench.run(&["-o", "a\u{1b}[2Jb", "--", "true"]);
    assert!(ran.stderr.contains(r"'a\u{1b}[2Jb'"), "a terminal's orders are shown, not given: {ran:?}");
}
