//! What only a store in a directory has: a restart, a lock, a disk that fills up, files that age.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, SystemTime};

use model::ByteSize;

use super::pack::{MAGIC, encode_record};
use super::samples::{noise, text};
use super::{Config, DirectoryFiles, Files, FilesError, MAX_READ, PACK_MAX, Slice, Upload, hash_of};

fn config() -> Config {
    Config { floor: ByteSize(0), ..Config::default() }
}

fn open(path: &Path) -> DirectoryFiles {
    DirectoryFiles::open(path, config()).unwrap()
}

/// Every file and directory below `path`.
fn walk(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![path.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path.clone());
            }
            found.push(path);
        }
    }
    found
}

#[test]
fn a_store_opened_again_has_everything_and_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { pack_roll: ByteSize(200_000), ..config() };
    let sizes = (0..60).map(|n| n * n * 40 + n);
    let contents: Vec<_> = sizes.enumerate().map(|(n, size)| noise(n as u64, size)).collect();
    let large = text(1, 3 << 20);
    let piece = hash_of(&large[100..2_000_000]);
    let upload = hash_of(b"half an upload");
    {
        let files = DirectoryFiles::open(directory.path(), config).unwrap();
        contents.iter().for_each(|content| assert_eq!(files.put(content).unwrap(), hash_of(content)));
        let parent = files.put(&large).unwrap();
        files.put_slice(&Slice { hash: piece, parent, offset: 100, len: 1_999_900 }).unwrap();
        files.append(&upload, 14, 0, b"half").unwrap();
        files.sync().unwrap();
    }
    assert!(fs::read_dir(directory.path().join("packs")).unwrap().count() > 3);
    for _ in 0..2 {
        let files = DirectoryFiles::open(directory.path(), config).unwrap();
        assert_eq!(files.damage(), []);
        for content in &contents {
            assert!(files.read(&hash_of(content), 0, MAX_READ).unwrap() == *content);
        }
        assert!(files.read(&piece, 0, MAX_READ).unwrap() == large[100..2_000_000]);
        assert_eq!(files.uploaded(&upload).unwrap(), 4);
    }
    let files = open(directory.path());
    assert_eq!(files.append(&upload, 14, 4, b" an upload").unwrap(), Upload::Complete);
    assert_eq!(fs::read_dir(directory.path().join("uploads")).unwrap().count(), 0);
}

#[test]
fn a_blob_put_by_many_threads_at_once_takes_room_once() {
    let directory = tempfile::tempdir().unwrap();
    let files = open(directory.path());
    let start = Barrier::new(8);
    let contents: Vec<_> = (0..50).map(|n| text(n, 40_000)).collect();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for content in &contents {
                    start.wait();
                    files.put(content).unwrap();
                }
            });
        }
    });
    let records = contents.iter().map(|content| encode_record(&hash_of(content), content).len());
    let len = fs::metadata(directory.path().join("packs/0001.pack")).unwrap().len();
    assert_eq!(len, (MAGIC.len() + records.sum::<usize>()) as u64);
}

#[test]
fn only_the_owner_can_read_any_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("made/here");
    let files = open(&root);
    files.put(b"small").unwrap();
    files.put(&noise(1, PACK_MAX + 1)).unwrap();
    files.append(&hash_of(b"part"), 4, 0, b"pa").unwrap();
    let writer = files.create().unwrap();
    files.sync().unwrap();
    for path in walk(&root).into_iter().chain([root.clone()]) {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
    }
    drop(writer);
}

#[test]
fn a_second_opening_is_refused_while_the_first_lasts() {
    let directory = tempfile::tempdir().unwrap();
    let files = open(directory.path());
    let second = DirectoryFiles::open(directory.path(), config());
    assert!(matches!(second, Err(FilesError::Locked { .. })));
    drop(files);
    open(directory.path());
}

#[test]
fn a_store_of_another_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    fs::write(directory.path().join("version"), "2\n").unwrap();
    let refused = DirectoryFiles::open(directory.path(), config());
    assert!(matches!(refused, Err(FilesError::Version { found, .. }) if found == "2"));
}

#[test]
fn opening_removes_old_uploads_and_unfinished_blobs() {
    let directory = tempfile::tempdir().unwrap();
    let (old, fresh) = (hash_of(b"old"), hash_of(b"fresh"));
    {
        let files = open(directory.path());
        files.append(&old, 3, 0, b"o").unwrap();
        files.append(&fresh, 5, 0, b"f").unwrap();
    }
    let part =
        File::options().write(true).open(directory.path().join(format!("uploads/{old}.part"))).unwrap();
    part.set_modified(SystemTime::now() - Duration::from_secs(25 * 3600)).unwrap();
    fs::write(directory.path().join("tmp/17"), "a draft of a server that was killed").unwrap();
    let files = open(directory.path());
    assert_eq!((files.uploaded(&old).unwrap(), files.uploaded(&fresh).unwrap()), (0, 1));
    assert_eq!(fs::read_dir(directory.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn nothing_is_left_of_what_did_not_become_a_blob() {
    let directory = tempfile::tempdir().unwrap();
    let files = open(directory.path());
    let before: BTreeSet<_> = walk(directory.path()).into_iter().collect();
    let mut writer = files.create().unwrap();
    writer.write(&noise(1, 3 << 20)).unwrap();
    drop(writer);
    let hash = hash_of(b"promised");
    assert!(files.append(&hash, 200_000, 0, &noise(2, 200_000)).is_err());
    let after: BTreeSet<_> = walk(directory.path()).into_iter().collect();
    assert_eq!(before, after);
}

#[test]
fn new_data_is_refused_below_the_floor_and_old_data_read() {
    let directory = tempfile::tempdir().unwrap();
    let hash = open(directory.path()).put(b"old").unwrap();
    let config = Config { floor: ByteSize(u64::MAX), ..config() };
    let files = DirectoryFiles::open(directory.path(), config).unwrap();
    let full = |error| matches!(error, FilesError::Full { source: None, free: ByteSize(1..), .. });
    assert!(full(files.put(b"new").unwrap_err()));
    assert!(full(files.append(&hash_of(b"new"), 3, 0, b"n").unwrap_err()));
    assert!(full(files.create().err().unwrap()));
    let slice = Slice { hash: hash_of(b"l"), parent: hash, offset: 1, len: 1 };
    assert!(full(files.put_slice(&slice).unwrap_err()));
    assert_eq!(files.put(b"old").unwrap(), hash);
    assert_eq!(files.read(&hash, 0, 10).unwrap(), b"old");
    files.sync().unwrap();
}

/// A file system of 4 MiB in memory, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, having said why, on a machine where it can't be mounted.
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m,mode=0700", "dcgrid-files-test"])
            .arg(directory.path())
            .output();
        let why = match mount {
            Ok(output) if output.status.success() => return Some(SmallDisk(directory)),
            Ok(output) => {
                String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned()
            }
            Err(error) => error.to_string(),
        };
        println!("skipped: can't mount a tmpfs: {why}");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(self.0.path()).status();
        if !thread::panicking() {
            assert!(status.is_ok_and(|status| status.success()), "{} stays mounted", self.0.path().display());
        }
    }
}

#[test]
fn a_full_disk_stops_new_data_and_hurts_nothing_else() {
    let Some(disk) = SmallDisk::mount() else { return };
    let root = disk.0.path().join("files");
    let files = open(&root);
    let full = |error: &FilesError| matches!(error, FilesError::Full { source: Some(_), .. });
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![0; 2 << 20]).unwrap();

    // Small blobs until no more fit.
    let mut stored = Vec::new();
    let refused = (0..).map(|n| noise(n, 50_000)).find_map(|content| match files.put(&content) {
        Ok(_) => {
            stored.push(content);
            None
        }
        Err(error) => Some((content, error)),
    });
    let (refused, error) = refused.unwrap();
    assert!(full(&error), "{error}");
    assert!(stored.len() > 20);
    assert_eq!(files.size(&hash_of(&refused)).unwrap(), None);

    // Nothing of it is left in the pack, not even what did fit.
    let pack = root.join("packs/0001.pack");
    let records = stored.iter().map(|content| encode_record(&hash_of(content), content).len());
    assert_eq!(fs::metadata(&pack).unwrap().len(), (MAGIC.len() + records.sum::<usize>()) as u64);

    // A large blob, an upload and a writer end the same way.
    let large = noise(1000, 1 << 20);
    let hash = hash_of(&large);
    assert!(full(&files.put(&large).unwrap_err()));
    assert!(full(&files.append(&hash, 1 << 20, 0, &large[..900_000]).unwrap_err()));
    let mut writer = files.create().unwrap();
    assert!(full(&writer.write(&noise(1001, 3 << 20)).unwrap_err()));
    drop(writer);
    assert_eq!(files.size(&hash).unwrap(), None);
    files.sync().unwrap();

    // With room again, the upload goes on where it stands.
    fs::remove_file(&ballast).unwrap();
    let stands = files.uploaded(&hash).unwrap();
    assert!(stands <= 900_000);
    let upload = files.append(&hash, 1 << 20, stands, &large[stands as usize..]).unwrap();
    assert_eq!(upload, Upload::Complete);
    stored.extend([refused.clone(), large]);
    files.put(&refused).unwrap();
    drop(files);

    let files = open(&root);
    assert_eq!(files.damage(), []);
    for content in &stored {
        assert!(files.read(&hash_of(content), 0, MAX_READ).unwrap() == *content);
    }
    assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 0);
}

#[test]
fn the_last_piece_of_an_upload_can_be_repeated_after_the_disk_was_full() {
    let Some(disk) = SmallDisk::mount() else { return };
    let files = open(&disk.0.path().join("files"));
    let content = noise(1, 1_500_000);
    let hash = hash_of(&content);
    files.append(&hash, 1_500_000, 0, &content[..1_000_000]).unwrap();
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![0; 2 << 20]).unwrap();
    let refused = files.append(&hash, 1_500_000, 1_000_000, &content[1_000_000..]);
    assert!(matches!(refused, Err(FilesError::Full { .. })));
    assert_eq!(files.uploaded(&hash).unwrap(), 1_000_000);
    fs::remove_file(&ballast).unwrap();
    let done = files.append(&hash, 1_500_000, 1_000_000, &content[1_000_000..]).unwrap();
    assert_eq!(done, Upload::Complete);
    assert!(files.read(&hash, 0, MAX_READ).unwrap() == content);
}
