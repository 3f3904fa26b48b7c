//! Compiles the loader: a program of its own, without the standard library, whose bytes the library face includes.
//!
//! The compiler is called directly, because a program that links nothing and starts by itself has flags that no
//! other part of the workspace may have. The bytes depend on the sources and on the tools, not on where they lie.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes beyond which something big was linked by mistake.
const MOST: u64 = 64 << 10;

fn main() {
    let from = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("src");
    let into = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("loader");
    println!("cargo::rerun-if-changed=src");
    let mut compile = Command::new(env::var_os("RUSTC").expect("cargo sets it"));
    compile.arg(from.join("loader/main.rs")).arg("-o").arg(&into);
    compile.args(["--crate-name", "loader", "--crate-type", "bin", "--edition", "2024"]);
    compile.args(["--target", "x86_64-unknown-linux-gnu", "-D", "warnings"]);
    compile.arg("--remap-path-prefix").arg(remap(&from));
    for option in [
        "panic=abort",
        "opt-level=s",
        "codegen-units=1",
        "debuginfo=0",
        "strip=symbols",
        // Position-independent and linked to nothing.
        "relocation-model=pie",
        "target-feature=+crt-static",
        "default-linker-libraries=no",
        "linker=cc",
        "link-arg=-nostartfiles",
        "link-arg=-nostdlib",
        "link-arg=-static-pie",
        // The linker that every compiler of C brings, whichever one this compiler would rather use.
        "link-arg=-fuse-ld=bfd",
        // The interpreter of others has none itself, and asks for no executable stack.
        "link-arg=-Wl,--no-dynamic-linker,-z,noexecstack,-z,norelro,-z,text",
        // As few pages and bytes as can be; the same at each build.
        "link-arg=-Wl,--build-id=none,--hash-style=gnu,-z,noseparate-code,-z,max-page-size=4096",
    ] {
        compile.args(["-C", option]);
    }
    // The flags of the workspace are for other programs.
    compile.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    let status = compile.status().expect("the compiler that builds this can be started");
    assert!(status.success(), "the portal loader can't be compiled: {compile:?}");
    let size = into.metadata().expect("it was just made").len();
    assert!(size <= MOST, "the portal loader has {size} bytes, more than {MOST}");
}

fn remap(from: &Path) -> String {
    format!("{}=portal-loader", from.display())
}
