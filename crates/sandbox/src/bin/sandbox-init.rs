//! Init of the sandbox as a program of its own, for programs that embed the crate but can't be re-executed, such
//! as its tests. `dcgrid` has it as a hidden subcommand.
#![deny(unsafe_code)]

fn main() -> std::process::ExitCode {
    sandbox::init_main()
}
