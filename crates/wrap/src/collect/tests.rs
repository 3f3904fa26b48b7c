//! The rules on made-up machines: where each file of an application comes to lie, and what is said of what is missing.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use protocol::manifest::Entry;

use super::collect;
use crate::testing::{TestElf, Tree};
use crate::{Display, Jit, Reason, Request, Warning, WrapError, Wrapped};

const LOADER: &str = "/lib64/ld.so";
const MULTIARCH: &str = "usr/lib/x86_64-linux-gnu";

/// A machine with a merged /usr, a loader, a C library and a shell.
fn machine() -> Tree {
    let tree = Tree::new();
    for name in ["bin", "lib", "lib64"] {
        tree.link(name, &format!("usr/{name}"));
    }
    tree.program("usr/lib64/ld.so", TestElf::default().bytes());
    library(&tree, "libc.so.6", &[]);
    program(&tree, "usr/bin/sh", &[]);
    tree
}

fn library(tree: &Tree, name: &str, needed: &[&str]) {
    tree.file(
        &format!("{MULTIARCH}/{name}"),
        TestElf { needed, soname: Some(name), ..TestElf::default() }.bytes(),
    );
}

fn program(tree: &Tree, path: &str, needed: &[&str]) {
    let needed = [needed, &["libc.so.6"]].concat();
    tree.program(path, TestElf { interpreter: Some(LOADER), needed: &needed, ..TestElf::default() }.bytes());
}

fn wrap(tree: &Tree, program: &str, include: &[&str]) -> Result<Wrapped, WrapError> {
    let request = Request {
        program: program.into(),
        include: include.iter().map(|what| (*what).to_owned()).collect(),
        shell_text: None,
        base_dir: "/home/u".into(),
        search_path: "/home/u/bin:/usr/bin".into(),
        jit: Jit::Auto,
        display: Display::None,
    };
    collect(tree.host(), &request)
}

fn target<'a>(wrapped: &'a Wrapped, path: &str) -> &'a str {
    match wrapped.manifest.entries.get(path) {
        Some(Entry::Symlink { target }) => target,
        other => panic!("{path} is {other:?}"),
    }
}

/// Every path in the list leads to a file of the application.
fn check_files(wrapped: &Wrapped, paths: &[&str]) {
    for path in paths {
        let found = wrapped.manifest.resolve(path);
        assert!(matches!(found, Some((_, Entry::File { .. }))), "{path} is {found:?}");
    }
}

#[test]
fn a_program_comes_with_its_loader_libraries_and_links() {
    let tree = machine();
    library(&tree, "libz.so.1.2", &["libc.so.6"]);
    tree.link(&format!("{MULTIARCH}/libz.so.1"), "libz.so.1.2");
    program(&tree, "usr/lib/tool/tool", &["libz.so.1"]);
    tree.link("etc/alternatives/tool", "/usr/lib/tool/tool");
    tree.link("usr/bin/tool", "/etc/alternatives/tool");
    let wrapped = wrap(&tree, "tool", &[]).unwrap();
    assert_eq!(wrapped.manifest.program, "/usr/bin/tool");
    let multiarch = ["/lib/x86_64-linux-gnu/libz.so.1", "/usr/lib/x86_64-linux-gnu/libz.so.1.2"];
    check_files(&wrapped, &multiarch);
    check_files(&wrapped, &["/usr/bin/tool", LOADER, "/lib/x86_64-linux-gnu/libc.so.6", "/bin/sh"]);
    assert_eq!(target(&wrapped, "/lib64"), "usr/lib64");
    assert_eq!(target(&wrapped, "/etc/alternatives/tool"), "/usr/lib/tool/tool");
    let reason = |path: &str| &wrapped.report.files[path].reason;
    assert_eq!(reason("/usr/lib/tool/tool"), &Reason::Program);
    assert_eq!(reason("/usr/lib64/ld.so"), &Reason::Interpreter { of: "/usr/lib/tool/tool".into() });
    assert_eq!(reason(multiarch[1]), &Reason::Library { needed_by: "/usr/lib/tool/tool".into() });
    assert_eq!(
        wrapped.manifest,
        wrap(&tree, "/bin/tool", &[]).unwrap().manifest,
        "either name gives the same"
    );
}

#[test]
fn the_user_s_own_program_finds_its_libraries_from_its_new_place() {
    let tree = machine();
    let own = TestElf { interpreter: Some(LOADER), needed: &["liba.so", "libc.so.6"], ..TestElf::default() };
    tree.program("home/u/pkg/bin/x", TestElf { runpath: Some("$ORIGIN/../lib:/home/u/abs"), ..own }.bytes());
    tree.file("home/u/pkg/lib/liba.so", TestElf { needed: &["libb.so"], ..TestElf::default() }.bytes());
    library(&tree, "libb.so", &[]);
    let alone = wrap(&tree, "pkg/bin/x", &[]).unwrap();
    assert_eq!(alone.manifest.program, "/app/x");
    // /app/../lib is /lib, which is a link.
    check_files(&alone, &["/usr/lib/liba.so", "/lib/liba.so", "/usr/lib/x86_64-linux-gnu/libb.so"]);

    let whole = wrap(&tree, "pkg/bin/x", &["pkg"]).unwrap();
    assert_eq!(whole.manifest.program, "/app/pkg/bin/x");
    check_files(&whole, &["/app/pkg/lib/liba.so"]);

    tree.file("home/u/abs/liba.so", TestElf::default().bytes());
    tree.program("home/u/y", TestElf { rpath: Some("/home/u/abs"), ..own }.bytes());
    check_files(&wrap(&tree, "./y", &[]).unwrap(), &["/home/u/abs/liba.so"]);

    tree.file("work/build/liba.so", TestElf::default().bytes());
    tree.program("home/u/z", TestElf { rpath: Some("/work/build"), ..own }.bytes());
    check_files(&wrap(&tree, "./z", &[]).unwrap(), &["/usr/lib/x86_64-linux-gnu/liba.so"]);
}

/// As Python's virtual environments and conda's do it: absolute paths into the directory itself.
#[test]
fn absolute_paths_into_an_included_directory_keep_leading_there() {
    let tree = machine();
    let python = TestElf { interpreter: Some(LOADER), rpath: Some("/home/u/env/lib"), ..TestElf::default() };
    tree.program("home/u/env/bin/python3.11", TestElf { needed: &["libx.so"], ..python }.bytes());
    tree.link("home/u/env/bin/python", "python3.11");
    tree.file("home/u/env/lib/libx.so", TestElf::default().bytes());
    tree.program("home/u/env/bin/tool", "#!/home/u/env/bin/python\nprint()\n");
    let wrapped = wrap(&tree, "env/bin/tool", &["env"]).unwrap();
    assert_eq!(wrapped.manifest.program, "/app/env/bin/tool");
    assert_eq!(target(&wrapped, "/home/u/env"), "/app/env");
    // An inner directory named as well has its own place, but no link of its own below the other's.
    check_files(
        &wrap(&tree, "env/bin/tool", &["env/lib", "env"]).unwrap(),
        &["/app/lib/libx.so", "/app/env/lib/libx.so"],
    );
    check_files(&wrapped, &["/home/u/env/bin/python", "/home/u/env/lib/libx.so", "/app/env/lib/libx.so"]);
}

#[test]
fn rpath_is_inherited_and_runpath_is_not() {
    let tree = machine();
    tree.file("opt/l/liba.so", TestElf { needed: &["libb.so"], ..TestElf::default() }.bytes());
    tree.file("opt/l/libb.so", TestElf::default().bytes());
    let own = TestElf { interpreter: Some(LOADER), needed: &["liba.so"], ..TestElf::default() };
    tree.program("usr/bin/r", TestElf { rpath: Some("/opt/${LIB}:/opt/l"), ..own }.bytes());
    tree.program("usr/bin/u", TestElf { runpath: Some("/opt/l"), ..own }.bytes());
    check_files(&wrap(&tree, "r", &[]).unwrap(), &["/opt/l/liba.so", "/opt/l/libb.so"]);
    let Err(WrapError::MissingLibraries { missing }) = wrap(&tree, "u", &[]) else {
        panic!("libb.so was found")
    };
    assert_eq!((missing[0].name.as_str(), missing[0].needed_by.as_str()), ("libb.so", "/opt/l/liba.so"));
}

#[test]
fn a_library_from_a_configured_directory_is_found_without_a_cache() {
    let tree = machine();
    tree.file("etc/ld.so.conf", "/usr/local/lib\n");
    tree.file("usr/local/lib/libq.so.1", TestElf::default().bytes());
    program(&tree, "usr/bin/q", &["libq.so.1"]);
    let wrapped = wrap(&tree, "q", &[]).unwrap();
    assert_eq!(target(&wrapped, "/usr/lib/x86_64-linux-gnu/libq.so.1"), "/usr/local/lib/libq.so.1");
    check_files(&wrapped, &["/usr/local/lib/libq.so.1"]);
}

#[test]
fn all_that_is_missing_is_named_with_who_needs_it() {
    let tree = machine();
    library(&tree, "liba.so", &["libdeep.so.3"]);
    program(&tree, "usr/bin/x", &["liba.so", "libgone.so.1"]);
    // A library of another machine is passed over like one that isn't there.
    let mut foreign = TestElf::default().bytes();
    foreign[18] = 183;
    tree.file(&format!("{MULTIARCH}/libgone.so.1"), foreign);
    let Err(WrapError::MissingLibraries { missing }) = wrap(&tree, "x", &[]) else {
        panic!("nothing is missing")
    };
    let named: Vec<_> = missing.iter().map(|m| (m.name.as_str(), m.needed_by.as_str())).collect();
    assert_eq!(named, [("libdeep.so.3", "/lib/x86_64-linux-gnu/liba.so"), ("libgone.so.1", "/usr/bin/x")]);
    assert!(missing[0].searched.contains(&"/usr/lib/x86_64-linux-gnu".to_owned()));
}

#[test]
fn a_script_comes_with_interpreter_and_commands() {
    let tree = machine();
    program(&tree, "usr/bin/env", &[]);
    program(&tree, "usr/bin/awk", &[]);
    program(&tree, "home/u/bin/mine", &[]);
    tree.program("usr/bin/python3", "#!/bin/sh\nexec awk\n");
    tree.program("home/u/s.py", "#!/usr/bin/env python3\nprint()\n");
    check_files(&wrap(&tree, "./s.py", &[]).unwrap(), &["/app/s.py", "/usr/bin/env", "/usr/bin/python3"]);

    tree.file("usr/share/tool/data", "x");
    tree.file("etc/secret", "x");
    tree.program("home/u/s.sh", "#!/bin/sh\nd=/usr/share/tool\nmine $d | awk 1 | gone /etc/secret\n");
    let wrapped = wrap(&tree, "./s.sh", &[]).unwrap();
    check_files(&wrapped, &["/app/s.sh", "/usr/bin/awk", "/usr/local/bin/mine", "/usr/share/tool/data"]);
    assert!(!wrapped.manifest.entries.contains_key("/etc/secret"));
    let gone = Warning::CommandNotFound { command: "gone".into(), script: "/app/s.sh".into() };
    assert_eq!(wrapped.report.warnings, [gone]);
}

#[test]
fn what_can_not_run_is_refused_before_it_is_sent() {
    let tree = machine();
    let mut foreign = TestElf::default().bytes();
    foreign[18] = 183;
    tree.program("home/u/arm", foreign);
    tree.program("home/u/cut", &TestElf { interpreter: Some(LOADER), ..TestElf::default() }.bytes()[..150]);
    tree.program("home/u/text", "echo no first line");
    tree.program("home/u/lib.so", TestElf { needed: &["libc.so.6"], ..TestElf::default() }.bytes());
    tree.file("home/u/plain", "#!/bin/sh\n");
    tree.program("home/u/orphan", "#!/usr/bin/fish\n");
    tree.program("home/u/env", "#!/usr/bin/env fish\n");
    tree.program("home/u/loop", "#!/home/u/loop\n");
    tree.link("home/u/circle", "circle");
    let _socket = UnixListener::bind(tree.path("home/u/dir/socket")).unwrap();
    program(&tree, "usr/bin/hmmsearch", &[]);
    let refused = |program: &str, include: &[&str]| wrap(&tree, program, include).unwrap_err().to_string();
    let check = |program: &str, expect: &str| {
        let text = refused(program, &[]);
        assert!(text.contains(expect), "{program}: {text}");
    };
    check("./arm", "'/home/u/arm' is for ARM64 with 64 bits");
    check("./cut", "is damaged");
    check("./text", "neither a program nor a script");
    check("./lib.so", "it is a shared library");
    check("./plain", "is not executable");
    check("./orphan", "needs '/usr/bin/fish', which is not on this machine");
    check("./env", "needs '/usr/bin/env'");
    check("./loop", "nested deeper");
    check("./circle", "go round in a circle");
    check("./nothing", "'/home/u/nothing' does not exist");
    check("./dir", "is a directory");
    check("./dir/socket", "is a socket");
    check("hmmserch", "did you mean 'hmmsearch'?");
    check("plain", "did you mean './plain'?");
    assert!(refused("hmmsearch", &["dir"]).contains("is a socket"));
    assert!(
        refused("hmmsearch", &["hmmsearc"])
            .contains("neither a file of /home/u nor a program in PATH; did you")
    );
    assert!(refused("hmmsearch", &["deb:none"]).contains("no installed package 'none'"));
}

#[test]
fn included_directories_keep_or_find_their_place() {
    let tree = machine();
    program(&tree, "usr/bin/x", &[]);
    tree.file("opt/data/a", "a");
    tree.file("home/u/set/sub/b", "b");
    tree.file("home/u/big", "big");
    tree.path("home/u/set/empty/x");
    for (link, to) in
        [("in", "sub/b"), ("out", "/home/u/big"), ("system", "/usr/bin/x"), ("up", ".."), ("gone", "y")]
    {
        tree.link(&format!("home/u/set/{link}"), to);
    }
    let wrapped = wrap(&tree, "x", &["/opt/data", "set", "big"]).unwrap();
    check_files(
        &wrapped,
        &["/opt/data/a", "/app/set/sub/b", "/app/set/in", "/app/set/out", "/app/set/system", "/app/big"],
    );
    assert_eq!(target(&wrapped, "/app/set/system"), "/usr/bin/x");
    assert_eq!(wrapped.manifest.entries["/app/set/empty"], Entry::Directory);
    let left_out: Vec<_> = wrapped.report.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(left_out.len(), 2, "{left_out:?}");
    assert!(matches!(wrap(&tree, "x", &["set", "/srv/set"]), Err(WrapError::Absent { .. })));
    tree.file("srv/set/c", "c");
    assert!(matches!(wrap(&tree, "x", &["set", "/srv/set"]), Err(WrapError::Collision { .. })));
}

#[test]
fn a_package_brings_its_files_and_its_dependencies() {
    let tree = machine();
    tree.file(
        "var/lib/dpkg/status",
        "Package: tool\nStatus: install ok installed\nDepends: tool-data, gcc\n\n\
         Package: tool-data\nStatus: install ok installed\n\n\
         Package: gcc\nSection: devel\nStatus: install ok installed\n\n\
         Package: base\nEssential: yes\nStatus: install ok installed\n",
    );
    tree.file(
        "var/lib/dpkg/info/tool.list",
        "/.\n/bin/tool\n/bin/tool-helper\n/usr/lib/tool/plugin.so\n/etc/tool.conf\n/etc/tool.key\n/usr/share/doc/tool/README\n/gone\n",
    );
    tree.file("var/lib/dpkg/info/tool-data.list", "/usr/share/tool/data\n/usr/share/tool/link\n");
    tree.file("var/lib/dpkg/info/base.list", "/bin\n/usr/bin/true\n/usr/share/base.txt\n");
    program(&tree, "usr/bin/tool", &[]);
    program(&tree, "usr/bin/true", &[]);
    let plugin = TestElf { needed: &["libnone.so", "tool"], ..TestElf::default() };
    tree.file("usr/lib/tool/plugin.so", plugin.bytes());
    for path in ["etc/tool.conf", "etc/tool.key", "usr/share/doc/tool/README", "usr/share/tool/data"] {
        tree.file(path, path);
    }
    tree.file("usr/share/base.txt", "");
    tree.link("usr/share/tool/link", "data");
    std::fs::set_permissions(tree.path("etc/tool.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    program(&tree, "usr/bin/tool-helper", &[]);
    std::fs::set_permissions(tree.path("usr/bin/tool-helper"), std::fs::Permissions::from_mode(0o4755))
        .unwrap();

    let wrapped = wrap(&tree, "tool", &[]).unwrap();
    check_files(
        &wrapped,
        &["/usr/bin/tool-helper", "/usr/lib/tool/plugin.so", "/etc/tool.conf", "/usr/share/tool/link"],
    );
    let entries = &wrapped.manifest.entries;
    assert!(!entries.contains_key("/etc/tool.key") && !entries.contains_key("/usr/share/doc/tool/README"));
    let warnings: Vec<_> = wrapped.report.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[0].contains("libnone.so is not on this machine"), "{warnings:?}");
    assert!(warnings[1].contains("include deb:gcc") && warnings[2].contains("/etc/tool.key is left out"));

    // Its rights don't come along, so it is no use as the program itself.
    assert!(matches!(wrap(&tree, "tool-helper", &[]), Err(WrapError::SetId { .. })));

    // The base system's own programs come without it, unless asked for.
    assert!(!wrap(&tree, "true", &[]).unwrap().manifest.entries.contains_key("/usr/share/base.txt"));
    check_files(&wrap(&tree, "true", &["deb:base"]).unwrap(), &["/usr/share/base.txt"]);
}

fn wrap_with_display(tree: &Tree) -> Result<Wrapped, WrapError> {
    let request = Request {
        program: "tool".into(),
        include: Vec::new(),
        shell_text: None,
        base_dir: "/home/u".into(),
        search_path: "/home/u/bin:/usr/bin".into(),
        jit: Jit::Auto,
        display: Display::Private,
    };
    collect(tree.host(), &request)
}

#[test]
fn a_private_display_comes_along_with_all_that_its_server_runs() {
    let tree = machine();
    program(&tree, "usr/bin/tool", &[]);
    let missing = |tree: &Tree| match wrap_with_display(tree) {
        Err(WrapError::NoDisplay { package, .. }) => package,
        other => panic!("{other:?}"),
    };
    assert_eq!(missing(&tree), "xvfb");
    library(&tree, "libpixman.so.0", &[]);
    program(&tree, "home/u/bin/Xvfb", &["libpixman.so.0"]);
    assert_eq!(missing(&tree), "x11-xkb-utils");
    program(&tree, "usr/bin/xkbcomp", &[]);
    assert_eq!(missing(&tree), "xkb-data");
    tree.file("usr/share/X11/xkb/rules/evdev", "! model");
    let without_font = wrap_with_display(&tree).unwrap();
    assert!(matches!(without_font.report.warnings.as_slice(), [Warning::NoFont { .. }]));

    tree.file("usr/share/fonts/truetype/liberation/Sans.ttf", "ttf");
    tree.file("usr/share/fonts/truetype/freefont/FreeSans.ttf", "ttf");
    tree.file("usr/share/fontconfig/conf.avail/10-x.conf", "<xml>");
    tree.path("etc/fonts/conf.d/.");
    tree.link("etc/fonts/conf.d/10-x.conf", "/usr/share/fontconfig/conf.avail/10-x.conf");
    tree.file("usr/share/glib-2.0/schemas/gschemas.compiled", "compiled");
    let wrapped = wrap_with_display(&tree).unwrap();
    assert!(wrapped.report.warnings.is_empty(), "{:?}", wrapped.report.warnings);
    check_files(
        &wrapped,
        &[
            "/usr/bin/Xvfb",
            "/usr/bin/xkbcomp",
            "/bin/sh",
            "/usr/lib/x86_64-linux-gnu/libpixman.so.0",
            "/usr/share/X11/xkb/rules/evdev",
            "/usr/share/fonts/truetype/liberation/Sans.ttf",
            "/etc/fonts/conf.d/10-x.conf",
            "/usr/share/glib-2.0/schemas/gschemas.compiled",
        ],
    );
    assert!(wrapped.manifest.resolve("/usr/share/fonts/truetype/freefont/FreeSans.ttf").is_none());
    let reason = &wrapped.report.files["/usr/share/X11/xkb/rules/evdev"].reason;
    assert_eq!(reason, &Reason::Display);
    // A program without windows has none of it.
    assert!(wrap(&tree, "tool", &[]).unwrap().manifest.resolve("/usr/bin/Xvfb").is_none());
}
