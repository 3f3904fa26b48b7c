//! How a run ended: its exit code, and what a person or a program is told.

use std::path::PathBuf;
use std::time::Duration;

use model::units::display_duration;
use model::{ByteSize, Crash, Dialog};
use sandbox::{Ended, Exit, LimitHit};
use serde::Serialize;

use super::code;
use super::streams::Stream;

/// The end of a run, with what only we know of it.
pub struct Ending {
    pub exit: Exit,
    /// The stream that met its limit.
    pub over: Option<(Stream, ByteSize)>,
    /// A signal that asked us to end.
    pub asked: Option<i32>,
    /// Whether nobody reads what the program writes any more.
    pub reader_gone: bool,
    /// Where pictures of the exit's dialogs lie, in their order; shorter when they could not be saved.
    pub pictures: Vec<Option<PathBuf>>,
}

/// A window that waited for somebody and was closed.
#[derive(Debug, Serialize)]
struct ReportedDialog {
    #[serde(flatten)]
    dialog: Dialog,
    #[serde(skip_serializing_if = "Option::is_none")]
    picture: Option<PathBuf>,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    /// Why it did not end by itself, or what it met: one line each.
    notes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'static str>,
    wall_seconds: f64,
    cpu_seconds: f64,
    peak_memory: u64,
    /// Programs that were executed and began with the portal loader.
    registered: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    crash: Option<Crash>,
    dialogs: Vec<ReportedDialog>,
    bytes_sent: u64,
    bytes_received: u64,
}

impl Ending {
    pub fn code(&self) -> u8 {
        if let Some(signal) = self.asked {
            return signal_code(signal);
        }
        if self.over.is_some() {
            return code::LIMIT;
        }
        match (&self.exit.ended, self.exit.hit) {
            (Ended::Setup(_) | Ended::Lost(_), _) | (_, Some(LimitHit::Tampered | LimitHit::FilesLost)) => {
                code::FAILED
            }
            (Ended::NotStarted(_), _) => code::NOT_EXECUTED,
            // A program that was refused a process and went on knows best how it ended.
            (Ended::Code(status), Some(LimitHit::Processes { .. }) | None) => {
                u8::try_from(*status).unwrap_or(u8::MAX)
            }
            (Ended::Signal(signal), Some(LimitHit::Processes { .. }) | None) => signal_code(*signal),
            (Ended::Code(_) | Ended::Signal(_), Some(_)) => code::LIMIT,
        }
    }

    /// `code` is what we end with, which may tell of more than the program.
    pub fn report(&self, code: u8) -> Report {
        let Exit { usage, crash, registered, network, .. } = &self.exit;
        Report {
            code,
            signal: match self.exit.ended {
                Ended::Signal(signal) => Some(signal),
                Ended::Code(_) | Ended::NotStarted(_) | Ended::Setup(_) | Ended::Lost(_) => None,
            },
            notes: self.notes(),
            limit: self.over.map(|_| "output").or_else(|| self.exit.hit.as_ref().and_then(limit_name)),
            wall_seconds: usage.wall.as_secs_f64(),
            cpu_seconds: usage.cpu.as_secs_f64(),
            peak_memory: usage.peak_memory.0,
            registered: *registered,
            crash: crash.clone(),
            dialogs: self
                .dialogs()
                .map(|(dialog, picture)| ReportedDialog { dialog: dialog.clone(), picture: picture.cloned() })
                .collect(),
            bytes_sent: network.sent,
            bytes_received: network.received,
        }
    }

    /// What a person should know; nothing of a run that went as it should.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        notes.extend(self.dialogs().map(|(dialog, picture)| describe_dialog(dialog, picture)));
        if let Some((stream, limit)) = self.over {
            notes.push(format!("ended by a limit: {} took more than --output-limit {limit}", stream.name()));
        } else if let Some(hit) = &self.exit.hit {
            notes.extend(describe_limit(hit));
            if let (LimitHit::Wall { .. }, Some(last)) = (hit, self.exit.dialogs.last()) {
                notes.push(format!(
                    "it may have waited for what it asked in the window '{}' until then",
                    last.dialog.title
                ));
            }
        }
        match &self.exit.ended {
            Ended::Setup(why) => notes.push(format!("the sandbox could not be made: {why}")),
            Ended::Lost(why) => notes.push(format!("the sandbox was lost: {why}")),
            Ended::NotStarted(why) => notes.push(format!("the program was not started: {why}")),
            Ended::Signal(signal) if self.is_worth_telling(*signal) => {
                notes.push(format!("the program was ended by signal {signal} ({})", signal_name(*signal)));
            }
            Ended::Signal(_) | Ended::Code(_) => {}
        }
        notes.extend(self.exit.network.unreached.iter().map(ToString::to_string));
        if let Some(crash) = &self.exit.crash {
            notes.push(describe_crash(crash));
        }
        notes
    }

    /// The dialogs with their pictures.
    fn dialogs(&self) -> impl Iterator<Item = (&Dialog, Option<&PathBuf>)> {
        let pictures = self.pictures.iter().map(Option::as_ref).chain(std::iter::repeat(None));
        self.exit.dialogs.iter().map(|closed| &closed.dialog).zip(pictures)
    }

    /// Not what a limit, a request to end or a reader that has gone explains.
    fn is_worth_telling(&self, signal: i32) -> bool {
        let killed_for_limit = self.over.is_some()
            || self.exit.hit.is_some_and(|hit| !matches!(hit, LimitHit::Processes { .. }));
        !killed_for_limit && self.asked.is_none() && !(self.reader_gone && signal == SIGPIPE)
    }
}

const SIGPIPE: i32 = rustix::process::Signal::PIPE.as_raw();

fn signal_code(signal: i32) -> u8 {
    u8::try_from(signal).map_or(u8::MAX, |signal| code::SIGNAL.saturating_add(signal))
}

fn limit_name(hit: &LimitHit) -> Option<&'static str> {
    match hit {
        LimitHit::Memory { .. } => Some("memory"),
        LimitHit::Wall { .. } => Some("wall"),
        LimitHit::Cpu { .. } => Some("cpu_time"),
        LimitHit::Processes { .. } => Some("processes"),
        LimitHit::Disk { .. } => Some("disk"),
        LimitHit::Stream { .. } => Some("output"),
        LimitHit::Tampered | LimitHit::FilesLost | LimitHit::Terminated { .. } => None,
    }
}

fn describe_limit(hit: &LimitHit) -> Option<String> {
    let time = |duration: Duration| display_duration(duration);
    Some(match hit {
        LimitHit::Memory { limit, peak } => format!("ended by a limit: --memory {limit}, peak {peak}"),
        LimitHit::Wall { limit } => format!("ended by a limit: --wall {}", time(*limit)),
        LimitHit::Cpu { limit, used } => {
            format!("ended by a limit: --cpu-time {}, used {:.1} s", time(*limit), used.as_secs_f64())
        }
        LimitHit::Processes { limit, peak } => {
            format!("a limit was met: --processes {limit}, peak {peak}; the program was refused more")
        }
        LimitHit::Disk { limit, used } => format!("ended by a limit: --disk {limit}, used {used}"),
        LimitHit::Stream { limit, size } => {
            format!("ended by a limit: --output-limit {limit}, wrote {size}")
        }
        LimitHit::Tampered => "ended: somebody changed its files on the disk".to_owned(),
        LimitHit::FilesLost => "ended: its files were lost, because the disk is full or failed".to_owned(),
        LimitHit::Terminated { .. } => return None,
    })
}

fn describe_dialog(Dialog { title, text }: &Dialog, picture: Option<&PathBuf>) -> String {
    let text = text.as_ref().map_or(String::new(), |text| format!(": {text}"));
    let picture = picture.map_or(String::new(), |path| format!("; its picture is '{}'", path.display()));
    format!("a window '{title}' waited for somebody and was closed{text}{picture}")
}

fn describe_crash(crash: &Crash) -> String {
    let address = crash.address.map_or(String::new(), |address| format!(" at address {address:#x}"));
    let name = signal_name(crash.signal);
    let mut text = format!("{} crashed with signal {} ({name}){address}", crash.program, crash.signal);
    for (number, frame) in crash.backtrace.iter().enumerate() {
        text.push_str(&format!("\n  {number:>2}  {}", frame.escape_debug()));
    }
    text
}

/// The names of the signals that end programs; signal(7).
fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => "another signal",
    }
}

#[cfg(test)]
mod tests {
    use model::Usage;
    use sandbox::{Cause, NetworkUse};

    use super::*;

    fn ending(ended: Ended, hit: Option<LimitHit>) -> Ending {
        let exit = Exit {
            ended,
            hit,
            usage: Usage::default(),
            crash: None,
            registered: 1,
            dialogs: Vec::new(),
            network: NetworkUse::default(),
        };
        Ending { exit, over: None, asked: None, reader_gone: false, pictures: Vec::new() }
    }

    fn check(ended: Ended, hit: Option<LimitHit>, code: u8, note: &str) {
        let ending = ending(ended, hit);
        assert_eq!((ending.code(), ending.notes().join("\n").as_str()), (code, note));
    }

    #[test]
    fn an_ending_has_a_code_and_says_why() {
        check(Ended::Code(0), None, 0, "");
        check(Ended::Code(3), None, 3, "");
        check(Ended::Signal(11), None, 139, "the program was ended by signal 11 (SIGSEGV)");
        let memory = LimitHit::Memory { limit: ByteSize::mib(64), peak: ByteSize::mib(63) };
        check(Ended::Signal(9), Some(memory), 124, "ended by a limit: --memory 64 MiB, peak 63 MiB");
        let processes = Some(LimitHit::Processes { limit: 4, peak: 4 });
        let note = "a limit was met: --processes 4, peak 4; the program was refused more";
        check(Ended::Code(2), processes, 2, note);
        check(Ended::Setup("x".into()), None, 125, "the sandbox could not be made: x");
        check(Ended::NotStarted("x".into()), None, 126, "the program was not started: x");
    }

    #[test]
    fn a_dialog_is_told_with_its_picture_and_as_what_a_long_run_waited_for() {
        let dialog = |title: &str| sandbox::ClosedDialog {
            dialog: Dialog { title: title.into(), text: None },
            picture: Vec::new(),
        };
        let mut ending = ending(Ended::Signal(9), Some(LimitHit::Wall { limit: Duration::from_secs(5) }));
        ending.exit.dialogs = vec![dialog("one"), dialog("two")];
        ending.pictures = vec![Some("/d/1.png".into())];
        let notes = [
            "a window 'one' waited for somebody and was closed; its picture is '/d/1.png'",
            "a window 'two' waited for somebody and was closed",
            "ended by a limit: --wall 5s",
            "it may have waited for what it asked in the window 'two' until then",
        ];
        assert_eq!(ending.notes(), notes);
        let report = serde_json::to_value(ending.report(124)).unwrap();
        assert_eq!(report["dialogs"][0]["picture"], "/d/1.png");
        assert_eq!(report["dialogs"][1], serde_json::json!({"title": "two", "text": null}));
    }

    #[test]
    fn what_was_asked_for_is_not_told_again() {
        let terminated = Some(LimitHit::Terminated { cause: Cause::Shutdown });
        let asked = Ending { asked: Some(2), ..ending(Ended::Signal(9), terminated) };
        assert_eq!((asked.code(), asked.notes()), (130, Vec::new()));
        let head = Ending { reader_gone: true, ..ending(Ended::Signal(13), None) };
        assert_eq!((head.code(), head.notes()), (141, Vec::new()));
    }
}
