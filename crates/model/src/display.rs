//! How large the private display of a graphical program is (§4.3.3.3).

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Pixels of a side. The largest display takes 64 MiB, which count as the subjob's memory.
const SIDE: RangeInclusive<u16> = 64..=4_096;

/// Width and height in pixels, written `1280x1024`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DisplaySize {
    pub width: u16,
    pub height: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{text}' is not a display's size: write WIDTHxHEIGHT, each from {} to {}", SIDE.start(), SIDE.end())]
pub struct DisplaySizeError {
    text: String,
}

impl Default for DisplaySize {
    fn default() -> Self {
        DisplaySize { width: 1_280, height: 1_024 }
    }
}

impl FromStr for DisplaySize {
    type Err = DisplaySizeError;

    fn from_str(text: &str) -> Result<Self, DisplaySizeError> {
        let side = |text: &str| {
            let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|side| is_plain && SIDE.contains(side))
        };
        text.split_once('x')
            .and_then(|(width, height)| Some(DisplaySize { width: side(width)?, height: side(height)? }))
            .ok_or_else(|| DisplaySizeError { text: text.to_owned() })
    }
}

impl fmt::Display for DisplaySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

impl TryFrom<String> for DisplaySize {
    type Error = DisplaySizeError;

    fn try_from(text: String) -> Result<Self, DisplaySizeError> {
        text.parse()
    }
}

impl From<DisplaySize> for String {
    fn from(size: DisplaySize) -> String {
        size.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_reads_back_as_it_is_shown() {
        let check = |text: &str, expect: Option<&str>| {
            let found = text.parse::<DisplaySize>().ok().map(|size| size.to_string());
            assert_eq!(found.as_deref(), expect, "{text}");
        };
        check("1280x1024", Some("1280x1024"));
        check("64x4096", Some("64x4096"));
        for bad in ["", "x", "1280", "63x64", "4097x64", "+640x480", "640X480", "640x480x24", "640 x 480"] {
            check(bad, None);
        }
    }
}
