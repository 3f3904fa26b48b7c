//! What an attempt left, on its way to the server: small files inside the report, large ones before it, and with a
//! failure what a person needs to understand it.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use link::ClientLink;
use model::FailureReason;
use protocol::api::{MAX_PART, ProblemCode};
use protocol::client_link::{Bytes, Lease, MAX_INLINE, MAX_PICTURES, ReportedFile, dialog_picture};
use sandbox::{ClosedDialog, Unreached};
use tokio::sync::watch;

use crate::attempt::{Order, ordered};
use crate::collect::{Output, hashed};
use crate::verdict::{describe, evicted, storage};

/// Files up to this size travel inside the report, as long as all of them together stay under [`MAX_INLINE`].
const INLINE: u64 = 16 << 10;

/// Bytes of each stream that are kept when an attempt failed.
const TAIL: u64 = 64 << 10;

/// Part of the output limit that pictures of dialogs may take.
pub(crate) const PICTURE_SHARE: u64 = 4;

/// The last bytes of each stream that there are, for a person to read. What can't be read is left out.
pub(crate) fn tails(streams: &[(&str, &Path)]) -> Vec<ReportedFile> {
    let tail = |path: &Path| -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(TAIL / 2)))?;
        let mut bytes = Vec::new();
        file.take(TAIL / 2).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let read = streams.iter().filter_map(|(name, path)| Some((*name, tail(path).ok()?)));
    read.map(|(name, bytes)| ReportedFile {
        path: name.to_owned(),
        hash: model::BlobHash(*blake3::hash(&bytes).as_bytes()),
        size: bytes.len() as u64,
        inline: Some(Bytes(bytes)),
    })
    .collect()
}

/// Says in a subjob's standard error which endpoints it did not reach: to the program that is a connection that was
/// reset, without a reason.
pub(crate) fn note_unreached(stderr: &Path, unreached: &[Unreached]) {
    if unreached.is_empty() {
        return;
    }
    let lines: String = unreached.iter().map(|endpoint| format!("dcgrid: {endpoint}\n")).collect();
    // It is there to help; where it can't be written, the subjob has failed all the same.
    let _ = File::options().append(true).open(stderr).and_then(|mut file| file.write_all(lines.as_bytes()));
}

/// What the dialogs looked like that were closed, as further files of the subjob. Those that its limit has no room
/// for, or that can't be written, are left out: they are there to help.
pub(crate) fn pictures(
    dialogs: &[ClosedDialog],
    is_declared: impl Fn(&str) -> bool,
    mut room: u64,
    directory: &Path,
) -> Vec<Output> {
    let pictures = dialogs.iter().map(|dialog| &dialog.picture).filter(|picture| !picture.is_empty());
    let mut outputs = Vec::new();
    for (number, picture) in (1..=MAX_PICTURES).zip(pictures) {
        let name = dialog_picture(number);
        let size = picture.len() as u64;
        if size > room || is_declared(&name) {
            continue;
        }
        let path = directory.join(&name);
        let written = fs::write(&path, picture).and_then(|()| File::open(&path));
        if let Ok(Ok(output)) = written.map(|file| hashed(&name, file)) {
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

/// Gets the outputs on their way: small ones inside the report, large ones before it.
pub(crate) async fn send(
    link: &mut ClientLink,
    lease: &Lease,
    outputs: Vec<Output>,
) -> Result<Vec<ReportedFile>, FailureReason> {
    let mut room = MAX_INLINE as u64;
    let mut reported = Vec::with_capacity(outputs.len());
    for mut output in outputs {
        let inline = if output.size <= INLINE.min(room) {
            room -= output.size;
            let mut bytes = Vec::new();
            output.file.read_to_end(&mut bytes).map_err(|error| storage(Path::new(&output.path), &error))?;
            Some(Bytes(bytes))
        } else {
            upload(link, lease, &mut output).await?;
            None
        };
        reported.push(ReportedFile { path: output.path, hash: output.hash, size: output.size, inline });
    }
    Ok(reported)
}

/// Uploads one file, going on where it stopped while the server can't be reached.
async fn upload(link: &mut ClientLink, lease: &Lease, output: &mut Output) -> Result<(), FailureReason> {
    let mut offset = 0;
    let mut again = false;
    let mut backoff = crate::backoff::Backoff::default();
    loop {
        output.file.seek(SeekFrom::Start(offset)).map_err(|e| storage(Path::new(&output.path), &e))?;
        let mut part = Vec::new();
        let mut reader = (&mut output.file).take(MAX_PART as u64);
        reader.read_to_end(&mut part).map_err(|e| storage(Path::new(&output.path), &e))?;
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
        let directory = tempfile::tempdir().expect("a temporary directory");
        let is_declared = |name: &str| declared.contains(&name);
        let found = super::pictures(&dialogs, is_declared, room, directory.path());
        let found: Vec<&str> = found.iter().map(|output| output.path.as_str()).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn an_endpoint_that_was_not_reached_is_told_at_the_end_of_standard_error() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let stderr = directory.path().join("stderr");
        fs::write(&stderr, "reset\n").expect("a file");
        let unreached =
            |times| Unreached { endpoint: "db.example:5432".into(), why: "Connection refused".into(), times };
        note_unreached(&stderr, &[]);
        note_unreached(&stderr, &[unreached(1), unreached(3)]);
        let text = fs::read_to_string(&stderr).expect("a file");
        let expect = "reset\n\
                      dcgrid: db.example:5432 was not reached: Connection refused\n\
                      dcgrid: db.example:5432 was not reached: Connection refused (3 times)\n";
        assert_eq!(text, expect);
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
