//! Amounts with their unit in the type: bytes, points in time, and the text that people write for them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum UnitError {
    #[error(
        "'{text}' has no unit: write {text}B, {text}KB, {text}KiB, {text}MB, {text}MiB, {text}GB or {text}GiB"
    )]
    SizeWithoutUnit { text: String },
    #[error("'{text}' is not a size: write a number and one of B, KB, KiB, MB, MiB, GB, GiB, TB, TiB")]
    Size { text: String },
    #[error("'{text}' has no unit: write {text}s, {text}m, {text}h or {text}d")]
    DurationWithoutUnit { text: String },
    #[error("'{text}' is not a duration: write a number and one of ms, s, m, h, d")]
    Duration { text: String },
}

/// A number of bytes. Text needs a unit, and GB and GiB differ: `"2GB"` is 2·10⁹, `"2GiB"` is 2·2³⁰.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

impl ByteSize {
    pub const fn mib(count: u64) -> Self {
        ByteSize(count << 20)
    }

    pub const fn gib(count: u64) -> Self {
        ByteSize(count << 30)
    }
}

/// The units of a size, longest spelling first so that `KiB` is not read as `B`.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let text = text.trim();
        let bad = || UnitError::Size { text: text.to_owned() };
        let Some((number, unit)) =
            SIZE_UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?.trim_end(), *unit)))
        else {
            return Err(match text.parse::<f64>() {
                Ok(_) => UnitError::SizeWithoutUnit { text: text.to_owned() },
                Err(_) => bad(),
            });
        };
        scaled(number, unit).map(ByteSize).ok_or_else(bad)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
            .into_iter()
            .find(|(unit, _)| self.0 >= *unit)
            .unwrap_or((1, "B"));
        if self.0.is_multiple_of(unit) {
            write!(f, "{} {name}", self.0 / unit)
        } else {
            write!(f, "{:.1} {name}", self.0 as f64 / unit as f64)
        }
    }
}

/// Reads a duration such as `90s`, `20m`, `1.5h` or `7d`.
///
/// # Errors
/// A text without a unit, with an unknown one, negative or too large.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let text = text.trim();
    let bad = || UnitError::Duration { text: text.to_owned() };
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let Some((number, unit)) =
        units.into_iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?.trim_end(), unit)))
    else {
        return Err(match text.parse::<f64>() {
            Ok(_) => UnitError::DurationWithoutUnit { text: text.to_owned() },
            Err(_) => bad(),
        });
    };
    scaled(number, unit).map(Duration::from_millis).ok_or_else(bad)
}

/// `number` (digits with an optional fraction) times `unit`, or nothing when it isn't one or doesn't fit.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit);
    }
    let value = number.parse::<f64>().ok()? * unit as f64;
    (value.is_finite() && value < u64::MAX as f64).then_some(value.round() as u64)
}

/// A duration as a person reads it in a table: `850ms`, `12s`, `3m05s`, `2h10m`, `4d07h`.
pub fn display_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A point in time: milliseconds since 1970-01-01 UTC. The pure layers are told it, they never ask for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    pub fn plus(self, duration: Duration) -> Self {
        Timestamp(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long before `self` the other point was; zero when it was not.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, to the second.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000;
        let (days, time) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil_from_days(days);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
            time / 3_600,
            time % 3_600 / 60,
            time % 60
        )
    }
}

/// The Gregorian date of a number of days since 1970-01-01, counted in 400-year eras that start in March.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_a_unit_and_the_two_kinds_differ() {
        assert_eq!("2GB".parse(), Ok(ByteSize(2_000_000_000)));
        assert_eq!("2GiB".parse(), Ok(ByteSize::gib(2)));
        assert_eq!("1.5 MiB".parse(), Ok(ByteSize(3 << 19)));
        assert_eq!("2000".parse::<ByteSize>(), Err(UnitError::SizeWithoutUnit { text: "2000".into() }));
        for bad in ["GiB", "-1GiB", "2 GiBs", "1e3MB", "99999999999TiB", "1.2.3MB"] {
            assert!(matches!(bad.parse::<ByteSize>(), Err(UnitError::Size { .. })), "{bad}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("1.5h"), Ok(Duration::from_secs(5_400)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("90"), Err(UnitError::DurationWithoutUnit { text: "90".into() }));
        assert!(parse_duration("soon").is_err());
    }

    #[test]
    fn times_print_as_rfc_3339() {
        let check = |millis, expect: &str| assert_eq!(Timestamp(millis).to_string(), expect);
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_400_000, "2000-02-29T00:00:00Z");
        check(1_795_507_694_000, "2026-11-24T08:08:14Z");
    }
}
