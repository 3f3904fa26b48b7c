//! What a program said or left behind when it got into trouble (§4.2.3, §4.3.3.3): values for reports.

use serde::{Deserialize, Serialize};

/// Most frames of a backtrace that are reported.
pub const MAX_FRAMES: usize = 64;

/// A process that was ended by a fault of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crash {
    /// Path of the program inside the sandbox.
    pub program: String,
    pub signal: i32,
    /// What it could not access; only for faults that have an address.
    pub address: Option<u64>,
    /// Innermost first: `function+0x1c in /usr/lib/x86_64-linux-gnu/libm.so.6`, or an address where there is no
    /// symbol. At most [`MAX_FRAMES`]; empty when the stack could not be read.
    pub backtrace: Vec<String>,
}

/// A window of the program that waited for somebody, and was closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialog {
    pub title: String,
    /// Its text, where the program tells it.
    pub text: Option<String>,
}
