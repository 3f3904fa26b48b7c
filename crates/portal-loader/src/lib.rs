//! The portal loader (§4.1.1): a tiny static program that `wrap` names as the ELF interpreter of every registered
//! program, so that it runs before any other code of each process, whatever the program is made of.
//!
//! ```text
//! execve(program) ──► portal loader ──► registers with the VM Portal
//!                                   ──► refuses itself new code (unless the program may make some)
//!                                   ──► installs the crash handler
//!                                   ──► maps the program's own loader, if it has one ──► and jumps to it
//! ```
//! This face has its bytes and what it says to the VM Portal; the program is in `loader/`, which `build.rs` compiles
//! on its own. It assists, and guarantees nothing: a hostile program may undo all of it, and is held by the sandbox.

pub mod frame;

/// The loader as an ELF file.
pub const LOADER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/loader"));

/// Directory of an application in which the loader lies.
pub const DIRECTORY: &str = "/.evm";

/// Added to the path by which a program names the loader, it gives a link to the program's own loader. A static
/// program's has none.
pub const NEXT: &str = ".next";

/// How the name of the loader begins in programs that make code while they run.
pub const JIT: char = 'j';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_small_and_has_no_interpreter_itself() {
        assert!(LOADER.starts_with(b"\x7fELF") && LOADER.len() < 16 << 10, "{} bytes", LOADER.len());
        assert!(!LOADER.windows(5).any(|part| part == b"/lib6"));
    }

    #[test]
    fn nothing_of_the_place_where_it_was_built_is_in_it() {
        let here = env!("CARGO_MANIFEST_DIR").as_bytes();
        assert!(!LOADER.windows(here.len()).any(|part| part == here));
    }
}
