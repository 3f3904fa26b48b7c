//! What crashes and decay do to a store in a directory: what was synced is there, and no wrong byte is handed out.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use model::{BlobHash, ByteSize};

use super::samples::{Rng, noise, text};
use super::{Config, DamageKind, DirectoryFiles, Files, FilesError, MAX_READ, PACK_MAX, Slice, hash_of};

fn open(path: &Path) -> DirectoryFiles {
    DirectoryFiles::open(path, Config { floor: ByteSize(0), ..Config::default() }).unwrap()
}

fn file(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

/// `None` if the blob isn't there or is reported as damaged; any other failure, and any wrong byte, is the test's.
fn read(files: &DirectoryFiles, hash: &BlobHash, content: &[u8]) -> Option<()> {
    match files.read(hash, 0, MAX_READ) {
        Ok(bytes) => {
            assert!(bytes == content, "wrong bytes for {hash}");
            Some(())
        }
        Err(FilesError::Missing { .. } | FilesError::Corrupt { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_pack_cut_at_any_byte_of_its_last_record_keeps_all_others() {
    let directory = tempfile::tempdir().unwrap();
    let pack = directory.path().join("packs/0001.pack");
    let (synced, last) = ([text(1, 300), noise(2, 100), Vec::new()], text(3, 400));
    let start = {
        let files = open(directory.path());
        synced.iter().for_each(|content| assert_eq!(files.put(content).unwrap(), hash_of(content)));
        files.sync().unwrap();
        let start = fs::metadata(&pack).unwrap().len();
        files.put(&last).unwrap();
        start
    };
    let whole = fs::read(&pack).unwrap();
    for len in start..whole.len() as u64 {
        fs::write(&pack, &whole[..len as usize]).unwrap();
        let files = open(directory.path());
        for content in &synced {
            read(&files, &hash_of(content), content).unwrap();
        }
        assert_eq!(files.size(&hash_of(&last)).unwrap(), None);
        let torn: Vec<_> = files.damage().iter().map(|damage| (damage.kind, damage.range.clone())).collect();
        let expect = if len == start { Vec::new() } else { vec![(DamageKind::TornTail, start..len)] };
        assert_eq!(torn, expect, "cut to {len}");
        // The store goes on growing at the cut.
        files.put(&last).unwrap();
        drop(files);
        assert!(fs::read(&pack).unwrap() == whole, "cut to {len}");
    }
}

#[test]
fn a_tail_that_never_reached_the_disk_is_cut_off() {
    // A file system may keep the new length of a file and lose its new bytes.
    let directory = tempfile::tempdir().unwrap();
    let synced = text(1, 300);
    open(directory.path()).put(&synced).unwrap();
    for junk in [vec![0; 5000], noise(1, 5000), b"DCGR".repeat(2000)] {
        let pack = file(&directory.path().join("packs/0001.pack"));
        pack.write_all_at(&junk, pack.metadata().unwrap().len()).unwrap();
        let files = open(directory.path());
        assert_eq!(files.damage().len(), 1);
        read(&files, &hash_of(&synced), &synced).unwrap();
        drop(files);
        assert_eq!(open(directory.path()).damage(), []);
    }
}

#[test]
fn a_pack_whose_beginning_was_interrupted_is_begun_again() {
    for len in 0..8 {
        let directory = tempfile::tempdir().unwrap();
        drop(open(directory.path()));
        file(&directory.path().join("packs/0001.pack")).set_len(len).unwrap();
        let files = open(directory.path());
        let hash = files.put(b"content").unwrap();
        drop(files);
        read(&open(directory.path()), &hash, b"content").unwrap();
    }
}

#[test]
fn a_damaged_record_is_reported_and_its_blob_can_be_stored_again() {
    let directory = tempfile::tempdir().unwrap();
    let contents = [noise(1, 100), noise(2, 100), noise(3, 100)];
    let hashes = contents.each_ref().map(|content| open(directory.path()).put(content).unwrap());
    let pack = file(&directory.path().join("packs/0001.pack"));
    pack.write_all_at(b"decayed", 8 + 156 + 80).unwrap();
    let files = open(directory.path());
    let damage: Vec<_> = files.damage().iter().map(|damage| (damage.kind, damage.range.clone())).collect();
    assert_eq!(damage, [(DamageKind::Decay, 164..320)]);
    assert!(
        files.damage()[0].to_string().ends_with("0001.pack: bytes 164 to 320 are damaged and were skipped")
    );
    let there = |files: &DirectoryFiles| hashes.map(|hash| files.size(&hash).unwrap().is_some());
    assert_eq!(there(&files), [true, false, true]);
    let before = fs::read(directory.path().join("packs/0001.pack")).unwrap();
    files.put(&contents[1]).unwrap();
    drop(files);
    assert!(fs::read(directory.path().join("packs/0001.pack")).unwrap() == before, "left as it is");
    let files = open(directory.path());
    assert_eq!(there(&files), [true, true, true]);
    read(&files, &hashes[1], &contents[1]).unwrap();
}

#[test]
fn a_blob_found_damaged_while_open_can_be_stored_again() {
    for len in [1000, PACK_MAX + 1000] {
        let directory = tempfile::tempdir().unwrap();
        let files = open(directory.path());
        let content = noise(1, len);
        let hash = files.put(&content).unwrap();
        let path = match len {
            1000 => directory.path().join("packs/0001.pack"),
            _ => {
                let name = hash.to_string();
                directory.path().join("blobs").join(&name[..2]).join(&name[2..4]).join(name)
            }
        };
        file(&path).write_all_at(b"decayed", 200).unwrap();
        for _ in 0..2 {
            let read = files.read(&hash, 0, MAX_READ);
            assert!(matches!(read, Err(FilesError::Corrupt { hash: found, .. }) if found == hash));
        }
        assert!(matches!(files.size(&hash), Err(FilesError::Corrupt { .. })));
        assert_eq!(files.uploaded(&hash).unwrap(), 0);
        match len {
            1000 => assert_eq!(files.put(&content).unwrap(), hash),
            _ => drop(files.append(&hash, len as u64, 0, &content).unwrap()),
        }
        read(&files, &hash, &content).unwrap();
        assert_eq!(files.size(&hash).unwrap(), Some(len as u64));
        drop(files);
        read(&open(directory.path()), &hash, &content).unwrap();
    }
}

#[test]
fn a_slice_is_damaged_and_mended_with_its_parent() {
    let directory = tempfile::tempdir().unwrap();
    let files = open(directory.path());
    let content = noise(1, 1000);
    let parent = files.put(&content).unwrap();
    let slice = Slice { hash: hash_of(&content[100..900]), parent, offset: 100, len: 800 };
    files.put_slice(&slice).unwrap();
    file(&directory.path().join("packs/0001.pack")).write_all_at(b"decayed", 500).unwrap();
    let corrupt = |error, expect| matches!(error, FilesError::Corrupt { hash, .. } if hash == expect);
    assert!(corrupt(files.read(&slice.hash, 0, 10).unwrap_err(), slice.hash));
    assert!(corrupt(files.size(&slice.hash).unwrap_err(), slice.hash));
    assert!(corrupt(files.size(&parent).unwrap_err(), parent));
    assert!(corrupt(files.read(&parent, 0, 10).unwrap_err(), parent));
    files.put(&content).unwrap();
    assert_eq!(files.size(&slice.hash).unwrap(), Some(800));
    read(&files, &slice.hash, &content[100..900]).unwrap();
}

/// Tells the test below that it is the process to be killed: the directory, and the first number to store.
const VICTIM: &str = "DCGRID_FILES_VICTIM";

/// What number `n` of the killed process is.
fn numbered(n: u64) -> Vec<u8> {
    text(n + 1, if n.is_multiple_of(7) { PACK_MAX + 5000 } else { n as usize % 3000 })
}

/// A piece of what [`numbered`] gives, if it has one.
fn piece(n: u64) -> Option<Slice> {
    let content = numbered(n);
    let part = content.get(content.len() / 3..content.len() / 2).filter(|part| !part.is_empty())?;
    let offset = (content.len() / 3) as u64;
    Some(Slice { hash: hash_of(part), parent: hash_of(&content), offset, len: part.len() as u64 })
}

/// Stores numbers from `first` on, and says after each sync which was the last.
fn store_until_killed(directory: &Path, first: u64) -> ! {
    let files = open(directory);
    for n in first.. {
        files.put(&numbered(n)).unwrap();
        if let Some(slice) = piece(n) {
            files.put_slice(&slice).unwrap();
        }
        if n.is_multiple_of(5) {
            files.sync().unwrap();
            println!("synced {n}");
        }
    }
    unreachable!("the numbers don't end before the kill")
}

#[test]
fn a_killed_process_loses_nothing_that_it_synced() {
    if let Some(victim) = std::env::var_os(VICTIM) {
        let victim = victim.into_string().unwrap();
        let (directory, first) = victim.rsplit_once(' ').unwrap();
        store_until_killed(Path::new(directory), first.parse().unwrap());
    }
    let directory = tempfile::tempdir().unwrap();
    let (_, module) = module_path!().split_once("::").unwrap();
    let test = format!("{module}::a_killed_process_loses_nothing_that_it_synced");
    let (mut first, mut rng) = (0, Rng(1));
    for _ in 0..20 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &test, "--nocapture"])
            .env(VICTIM, format!("{} {first}", directory.path().display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut acknowledged = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .filter_map(|line| line.unwrap().strip_prefix("synced ")?.parse::<u64>().ok());
        let last = acknowledged.nth(rng.below(10) as usize).expect("it stores until it is killed");
        child.kill().unwrap();
        child.wait().unwrap();
        // It may have got further between the line read last and the kill.
        let last = acknowledged.last().unwrap_or(last);
        let files = open(directory.path());
        assert!(
            files.damage().iter().all(|damage| damage.kind == DamageKind::TornTail),
            "{:?}",
            files.damage()
        );
        for n in 0..=last {
            read(&files, &hash_of(&numbered(n)), &numbered(n)).unwrap();
            piece(n).map(|slice| files.read(&slice.hash, 0, MAX_READ).unwrap());
        }
        first = last + 1;
    }
}

/// Flips a bit of each byte of `path` in turn, and each time reads everything from a fresh store.
fn check_every_byte(directory: &Path, path: &Path, step: usize, contents: &[(BlobHash, &[u8])]) {
    let whole = fs::read(path).unwrap();
    for position in (0..whole.len()).step_by(step) {
        let byte = whole[position] ^ (1 << (position % 8));
        fs::write(path, &whole).unwrap();
        file(path).write_all_at(&[byte], position as u64).unwrap();
        let files = open(directory);
        let lost = contents.iter().filter(|(hash, content)| read(&files, hash, content).is_none()).count();
        assert!(lost <= 2, "byte {position} of {} took {lost} blobs along", path.display());
        drop(files);
        // A pack that lost its end or was left alone gets a successor.
        let _ = fs::remove_file(directory.join("packs/0002.pack"));
    }
    fs::write(path, &whole).unwrap();
}

#[test]
fn no_changed_byte_of_any_file_is_handed_out() {
    let directory = tempfile::tempdir().unwrap();
    let contents = [text(1, 200), noise(2, 60), text(3, PACK_MAX + 2000), b"x".to_vec()];
    let mut expect: Vec<(BlobHash, &[u8])> = Vec::new();
    {
        let files = open(directory.path());
        for content in &contents {
            expect.push((files.put(content).unwrap(), content));
        }
        for (parent, range) in [(0, 10..50), (2, 1000..60_000)] {
            let content = &contents[parent][range.clone()];
            let (offset, len) = (range.start as u64, content.len() as u64);
            let slice = Slice { hash: hash_of(content), parent: hash_of(&contents[parent]), offset, len };
            files.put_slice(&slice).unwrap();
            expect.push((slice.hash, content));
        }
    }
    let name = hash_of(&contents[2]).to_string();
    let single: PathBuf = directory.path().join("blobs").join(&name[..2]).join(&name[2..4]).join(&name);
    check_every_byte(directory.path(), &directory.path().join("packs/0001.pack"), 1, &expect);
    check_every_byte(directory.path(), &directory.path().join("slices"), 1, &expect);
    // Each byte of a frame is tried in frames.rs; here the way through the store.
    check_every_byte(directory.path(), &single, 97, &expect);
}
