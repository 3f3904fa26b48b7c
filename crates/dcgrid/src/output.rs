//! Printing: tables that fit a terminal and stay plain in a pipe, JSON, and progress. Data goes to stdout,
//! everything for people to stderr.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use model::Counts;
use model::units::display_duration;
use serde::Serialize;

/// Prints a line of data. A reader that has gone away is no error of ours.
pub fn line(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

pub fn json(value: &impl Serialize) {
    line(&serde_json::to_string_pretty(value).expect("answers hold only text, numbers, lists and maps"));
}

/// Tells a person something.
pub fn note(text: &str) {
    eprintln!("{text}");
}

/// A table under construction.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: &[&str]) -> Self {
        Table { rows: vec![head.iter().map(ToString::to_string).collect()] }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Aligned columns on a terminal; tabs in a pipe.
    pub fn print(&self) {
        let text = if io::stdout().is_terminal() { self.aligned() } else { self.tabbed() };
        let _ = io::stdout().write_all(text.as_bytes());
    }

    fn tabbed(&self) -> String {
        let clean = |cell: &String| cell.replace(['\t', '\n'], " ");
        self.rows.iter().map(|row| row.iter().map(clean).collect::<Vec<_>>().join("\t") + "\n").collect()
    }

    fn aligned(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// Progress of a job: a bar with the time left on a terminal, a line now and then otherwise.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
    begun: Instant,
    /// Subjobs that had ended when we began to watch: they say nothing about the speed.
    ended_before: Option<u64>,
    next_line: Instant,
}

/// Time between two lines of progress where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

impl Progress {
    pub fn new(title: &str, quiet: bool) -> Self {
        let is_terminal = io::stderr().is_terminal() && !quiet;
        let target = if is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {percent:>3} %  {msg}")
            .expect("the template is well-formed");
        bar.set_style(style.progress_chars("#>."));
        bar.set_prefix(title.to_owned());
        let begun = Instant::now();
        let next_line = if quiet { begun + Duration::from_secs(1 << 30) } else { begun };
        Progress { bar, is_terminal, begun, ended_before: None, next_line }
    }

    pub fn show(&mut self, counts: &Counts) {
        let ended = counts.succeeded + counts.failed + counts.cancelled;
        let before = *self.ended_before.get_or_insert(ended);
        let left = time_left(self.begun.elapsed(), ended - before.min(ended), counts.total - ended);
        let message = format!(
            "{} done  {} running  {} waiting  {} failed  left {}",
            counts.succeeded,
            counts.running,
            counts.waiting,
            counts.failed,
            left.map_or("?".to_owned(), display_duration)
        );
        if self.is_terminal {
            self.bar.set_length(counts.total);
            self.bar.set_position(ended);
            self.bar.set_message(message);
        } else if Instant::now() >= self.next_line {
            self.next_line = Instant::now() + LINE_EVERY;
            let percent = 100 * ended / counts.total.max(1);
            note(&format!("{} {percent} %  {message}", self.bar.prefix()));
        }
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// How long the rest takes at the pace so far.
fn time_left(elapsed: Duration, ended: u64, open: u64) -> Option<Duration> {
    let pace = elapsed.as_secs_f64() / if ended == 0 { return None } else { ended as f64 };
    Some(Duration::from_secs((pace * open as f64).ceil() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_for_people_and_tabbed_for_programs() {
        let mut table = Table::new(&["job", "name"]);
        table.row(["7".to_owned(), "a\tb".to_owned()]);
        assert_eq!(table.aligned(), "job  name\n7    a\tb\n");
        assert_eq!(table.tabbed(), "job\tname\n7\ta b\n");
    }

    #[test]
    fn time_left_follows_the_pace() {
        assert_eq!(time_left(Duration::from_secs(10), 5, 20), Some(Duration::from_secs(40)));
        assert_eq!(time_left(Duration::from_secs(10), 0, 20), None);
    }
}
