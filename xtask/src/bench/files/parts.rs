//! What is measured, and what the issue asks of it.

use anyhow::{Context, Result};

/// One run of the driver.
#[derive(Debug)]
pub(super) struct Part {
    pub name: &'static str,
}

/// In this order: the later ones rely on the files of the earlier ones.
pub(super) const PARTS: &[Part] = &[
    Part { name: "write" },
    Part { name: "read-warm" },
    Part { name: "read-cold" },
    Part { name: "random-read-warm" },
    Part { name: "random-read-cold" },
    Part { name: "random-write" },
    Part { name: "map-read-cold" },
    Part { name: "map-write" },
    Part { name: "append" },
    Part { name: "create" },
    Part { name: "stat" },
    Part { name: "small-read-cold" },
    Part { name: "unlink" },
    Part { name: "wake" },
    Part { name: "clear" },
];

/// What sealed files should reach of the plain directory's speed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Aim {
    AtLeast(f64),
    None,
}

/// A line of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub name: &'static str,
    /// A second.
    pub unit: &'static str,
    /// The part, and the name under which it prints the figure.
    pub of: (&'static str, &'static str),
    pub aim: Aim,
}

/// With the aims of the issue.
pub(super) const ROWS: &[Row] = &[
    row("write 8K, to close", "MiB", ("write", "close"), Aim::AtLeast(0.75)),
    row("write 8K, to fsync", "MiB", ("write", "fsync"), Aim::AtLeast(0.9)),
    row("read 8K, warm", "MiB", ("read-warm", "rate"), Aim::AtLeast(0.95)),
    row("read 8K, cold", "MiB", ("read-cold", "rate"), Aim::AtLeast(0.95)),
    row("random read 4K, warm", "", ("random-read-warm", "rate"), Aim::AtLeast(0.7)),
    row("random read 4K, cold", "", ("random-read-cold", "rate"), Aim::AtLeast(0.75)),
    row("random write 4K, buffered", "", ("random-write", "buffered"), Aim::AtLeast(0.35)),
    row("random write 4K, to fsync", "", ("random-write", "fsync"), Aim::AtLeast(0.4)),
    row("mmap read, cold", "MiB", ("map-read-cold", "rate"), Aim::AtLeast(1.0)),
    row("mmap write + msync", "MiB", ("map-write", "rate"), Aim::None),
    row("append 4K + fsync", "", ("append", "rate"), Aim::None),
    row("create + write 1K + close", "", ("create", "rate"), Aim::AtLeast(0.4)),
    row("stat, cold", "", ("stat", "cold"), Aim::AtLeast(0.4)),
    row("stat, warm", "", ("stat", "warm"), Aim::None),
    row("open + read 1K, cold", "", ("small-read-cold", "rate"), Aim::None),
    row("unlink", "", ("unlink", "rate"), Aim::AtLeast(0.4)),
    // The same everywhere: by how much it is not, the other figures are not to be trusted.
    row("pipe, there and back", "", ("wake", "rate"), Aim::None),
];

const fn row(name: &'static str, unit: &'static str, of: (&'static str, &'static str), aim: Aim) -> Row {
    Row { name, unit, of, aim }
}

impl Part {
    /// The figures that it printed, by row.
    ///
    /// # Errors
    /// One is missing or no number.
    pub(super) fn rows(&self, printed: &str) -> Result<Vec<(&'static str, f64)>> {
        let rows = ROWS.iter().filter(|row| row.of.0 == self.name);
        rows.map(|row| {
            let name = row.of.1;
            let line = printed.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'));
            let line = line.with_context(|| format!("{} prints no '{name}'", self.name))?;
            let value = line.parse().with_context(|| format!("understand '{line}'"))?;
            Ok((row.name, value))
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_of_a_part() {
        let is_part = |row: &&Row| PARTS.iter().any(|part| part.name == row.of.0);
        assert_eq!(ROWS.iter().filter(is_part).count(), ROWS.len());
    }

    #[test]
    fn figures_are_found_by_their_names() {
        let part = Part { name: "stat" };
        let found = part.rows("cold\t64883.033\nwarm\t299584.0\n").expect("it is well-formed");
        assert_eq!(found, [("stat, cold", 64883.033), ("stat, warm", 299_584.0)]);
        assert!(part.rows("cold\t1.0\n").is_err());
        assert!(part.rows("cold\tx\nwarm\t1.0\n").is_err());
    }
}
