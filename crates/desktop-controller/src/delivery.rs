//! What an attempt left, on its way to the server: small files inside the report, large ones before it, and with a
//! failure what a person needs to understand it.

use link::ClientLink;
use model::FailureReason;
use protocol::api::{MAX_PART, ProblemCode};
use protocol::client_link::{Bytes as Inline, Lease, MAX_INLINE, MAX_PICTURES, ReportedFile, dialog_picture};
use sandbox::{ClosedDialog, Unreached};
use tokio::sync::watch;

use crate::attempt::{Order, ordered};
use crate::output::{Bytes, Output};
use crate::verdict::{describe, evicted};

/// Files up to this size travel inside the report, as long as all of them together stay under [`MAX_INLINE`].
const INLINE: u64 = 16 << 10;

/// Bytes of each stream that are kept when an attempt failed.
const TAIL: usize = 32 << 10;

/// Part of the output limit that pictures of dialogs may take.
pub(crate) const PICTURE_SHARE: u64 = 4;

/// The last bytes of a stream of `size` bytes, with `note` after them, for a person to read. What can't be read is left
/// out.
pub(crate) fn tail(name: &str, stream: &Bytes, size: u64, note: &str) -> Option<ReportedFile> {
    let mut bytes = stream.read(name, size.saturating_sub(TAIL as u64), TAIL).ok()?;
    bytes.extend_from_slice(note.as_bytes());
    bytes.drain(..bytes.len().saturating_sub(TAIL));
    let hash = model::BlobHash(*blake3::hash(&bytes).as_bytes());
    Some(ReportedFile { path: name.to_owned(), hash, size: bytes.len() as u64, inline: Some(Inline(bytes)) })
}

/// Which endpoints a subjob did not reach, for its standard error: to the program that is a connection that was reset,
/// without a reason.
pub(crate) fn note_unreached(unreached: &[Unreached]) -> String {
    unreached.iter().map(|endpoint| format!("dcgrid: {endpoint}\n")).collect()
}

/// What the dialogs looked like that were closed, as further files of the subjob. Those that its limit has no room
/// for are left out: they are there to help.
pub(crate) fn pictures(
    dialogs: &[ClosedDialog],
    is_declared: impl Fn(&str) -> bool,
    mut room: u64,
) -> Vec<Output> {
    let pictures = dialogs.iter().map(|dialog| &dialog.picture).filter(|picture| !picture.is_empty());
    let mut outputs = Vec::new();
    for (number, picture) in (1..=MAX_PICTURES).zip(pictures) {
        let name = dialog_picture(number);
        let size = picture.len() as u64;
        if size > room || is_declared(&name) {
            continue;
        }
        if let Ok(output) = Output::take(&name, Bytes::Memory(picture.clone())) {
            outputs.push(output);
            room -= size;
        }
    }
    outputs
}

/// Sends what is good to have with a failure that is reported in any case.
pub(crate) async fn send_extra(
    link: &mut ClientLink,
    lease: &Lease,
    outputs: Vec<Output>,
    orders: &mut watch::Receiver<Order>,
) -> Vec<ReportedFile> {
    if outputs.is_empty() {
        return Vec::new();
    }
    let sent = tokio::select! {
        sent = send(link, lease, outputs) => sent,
        order = ordered(orders) => Err(evicted(order)),
    };
    sent.unwrap_or_else(|reason| {
        tracing::warn!(%reason, subjob = %lease.subjob, "pictures of dialogs are not reported");
        Vec::new()
    })
}

/// Gets the outputs on their way: small ones inside the report, large ones before it. What is sent is what was hashed,
/// or nothing.
pub(crate) async fn send(
    link: &mut ClientLink,
    lease: &Lease,
    outputs: Vec<Output>,
) -> Result<Vec<ReportedFile>, FailureReason> {
    let mut room = MAX_INLINE as u64;
    let mut reported = Vec::with_capacity(outputs.len());
    for output in outputs {
        let inline = if output.size <= INLINE.min(room) {
            room -= output.size;
            let bytes = output.bytes.read(&output.path, 0, INLINE as usize)?;
            if blake3::hash(&bytes).as_bytes() != &output.hash.0 {
                return Err(FailureReason::Tampering { path: output.path });
            }
            Some(Inline(bytes))
        } else {
            upload(link, lease, &output).await?;
            None
        };
        reported.push(ReportedFile { path: output.path, hash: output.hash, size: output.size, inline });
    }
    Ok(reported)
}

/// Uploads one file, going on where it stopped while the server can't be reached.
async fn upload(link: &mut ClientLink, lease: &Lease, output: &Output) -> Result<(), FailureReason> {
    let mut offset = 0;
    let mut again = false;
    let mut backoff = crate::backoff::Backoff::default();
    let mut check = Check { hasher: blake3::Hasher::new(), done: 0 };
    loop {
        let part = output.bytes.read(&output.path, offset, MAX_PART)?;
        if !check.agrees(output, offset, &part) {
            return Err(FailureReason::Tampering { path: output.path.clone() });
        }
        match link.put_blob(lease.fence, &output.hash, output.size, offset, part.into()).await {
            Ok(reply) if reply.complete => return Ok(()),
            // An answer that takes nothing on is no reason to ask again at once.
            Ok(reply) if reply.uploaded <= offset => {
                offset = reply.uploaded;
                backoff.wait().await;
            }
            Ok(reply) => offset = reply.uploaded,
            // Somebody else began it with other bytes, which are gone now: once from the start, all our own.
            Err(error) if offset > 0 && !again && error.code() == Some(ProblemCode::HashMismatch) => {
                (offset, again) = (0, true);
            }
            Err(error) if error.is_passing() => {
                tracing::warn!(error = describe(&error), subjob = %lease.subjob, "upload interrupted");
                backoff.wait().await;
            }
            Err(error) => return Err(FailureReason::ClientSetup { why: describe(&error) }),
        }
    }
}

/// Whether the bytes that are sent are those that were hashed before: told at the last part, if all went by in order.
/// The server checks too, and could only say that it got other bytes.
struct Check {
    hasher: blake3::Hasher,
    done: u64,
}

impl Check {
    fn agrees(&mut self, output: &Output, offset: u64, part: &[u8]) -> bool {
        if offset == self.done {
            self.hasher.update(part);
            self.done += part.len() as u64;
        }
        let is_all = self.done == output.size && offset + part.len() as u64 == output.size;
        !is_all || self.hasher.finalize().as_bytes() == &output.hash.0
    }
}

#[cfg(test)]
mod tests {
    use model::Dialog;

    use super::*;

    fn check(pictures: &[&[u8]], declared: &[&str], room: u64, expect: &[&str]) {
        let dialog = |picture: &&[u8]| ClosedDialog {
            dialog: Dialog { title: "Error".to_owned(), text: None },
            picture: picture.to_vec(),
        };
        let dialogs: Vec<ClosedDialog> = pictures.iter().map(dialog).collect();
        let is_declared = |name: &str| declared.contains(&name);
        let found = super::pictures(&dialogs, is_declared, room);
        let found: Vec<&str> = found.iter().map(|output| output.path.as_str()).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn an_endpoint_that_was_not_reached_is_told_at_the_end_of_standard_error() {
        let unreached =
            |times| Unreached { endpoint: "db.example:5432".into(), why: "Connection refused".into(), times };
        let check = |stream: &str, unreached: &[Unreached], expect: &str| {
            let stream = stream.as_bytes().to_vec();
            let size = stream.len() as u64;
            let tail = tail("stderr", &Bytes::Memory(stream), size, &note_unreached(unreached));
            let found = tail.and_then(|file| file.inline).expect("inside the report").0;
            assert_eq!(String::from_utf8_lossy(&found), expect);
        };
        check("reset\n", &[], "reset\n");
        let expect = "reset\n\
                      dcgrid: db.example:5432 was not reached: Connection refused\n\
                      dcgrid: db.example:5432 was not reached: Connection refused (3 times)\n";
        check("reset\n", &[unreached(1), unreached(3)], expect);
        let long = "x".repeat(2 * TAIL);
        check(&long, &[], &long[..TAIL]);
        let note = note_unreached(&[unreached(1)]);
        check(&long, &[unreached(1)], &format!("{}{note}", &long[..TAIL - note.len()]));
    }

    #[test]
    fn what_was_changed_after_it_was_hashed_is_noticed_at_the_last_part() {
        let output = Output::take("x", Bytes::Memory(b"abcdef".to_vec())).expect("readable");
        let check = |parts: &[(u64, &str)], expect: bool| {
            let mut check = Check { hasher: blake3::Hasher::new(), done: 0 };
            let found = parts.iter().all(|(at, part)| check.agrees(&output, *at, part.as_bytes()));
            assert_eq!(found, expect, "{parts:?}");
        };
        check(&[(0, "abc"), (3, "def")], true);
        check(&[(0, "abc"), (0, "abc"), (3, "def"), (3, "def")], true);
        check(&[(0, "abx"), (3, "def")], false);
        check(&[(0, "abc"), (3, "deX")], false);
        // The server has had the beginning from somebody else, and checks it.
        check(&[(3, "def")], true);
    }

    #[test]
    fn pictures_of_dialogs_are_further_files_as_far_as_there_is_room() {
        check(&[b"a", b"", b"b"], &[], 99, &["dialog-1.png", "dialog-2.png"]);
        check(&[b"a", b"b"], &["dialog-1.png"], 99, &["dialog-2.png"]);
        check(&[b"aa", b"bb", b"c"], &[], 3, &["dialog-1.png", "dialog-3.png"]);
        check(
            &[b"a".as_slice(); MAX_PICTURES + 1],
            &[],
            99,
            &[
                "dialog-1.png",
                "dialog-2.png",
                "dialog-3.png",
                "dialog-4.png",
                "dialog-5.png",
                "dialog-6.png",
                "dialog-7.png",
                "dialog-8.png",
            ],
        );
    }
}
