//! What every file store must do: one suite, run against each of them.

use std::sync::Barrier;
use std::thread;

use model::BlobHash;

use super::samples::{Rng, noise, text};
use super::{
    Config, DirectoryFiles, Files, FilesError, MAX_BLOB, MAX_READ, MemoryFiles, PACK_MAX, Slice, Upload,
    hash_of,
};

/// Makes a test of each check for each store.
macro_rules! conformance {
    ($($check:ident),+ $(,)?) => {
        mod directory {
            $(#[test]
            fn $check() {
                let directory = tempfile::tempdir().unwrap();
                super::$check(&super::DirectoryFiles::open(directory.path(), super::config()).unwrap());
            })+
        }

        mod memory {
            $(#[test]
            fn $check() {
                super::$check(&super::MemoryFiles::new());
            })+
        }
    };
}

conformance![
    what_is_put_is_read,
    what_was_never_stored_is_missing,
    putting_again_changes_nothing,
    an_upload_in_pieces_becomes_the_blob,
    an_upload_refuses_what_does_not_fit,
    an_upload_of_other_bytes_is_discarded,
    an_upload_begun_with_a_wrong_size_starts_over,
    uploads_of_one_blob_from_many_threads_end_in_one_blob,
    a_writer_names_what_it_wrote,
    a_dropped_writer_leaves_nothing,
    a_slice_reads_as_the_range_of_its_parent,
    slices_are_checked_before_any_is_visible,
    a_slice_that_lies_is_never_read_as_a_whole,
    a_read_has_a_longest_length,
    puts_from_eight_threads_are_all_there,
];

/// Packs small enough to roll over within a test.
fn config() -> Config {
    Config { floor: model::ByteSize(0), pack_roll: model::ByteSize(300_000), ..Config::default() }
}

/// Contents of every size at which something changes.
fn contents() -> Vec<Vec<u8>> {
    let sizes = [0, 1, 63, 64, 4096, PACK_MAX - 1, PACK_MAX, PACK_MAX + 1, 1 << 20, (3 << 20) + 5];
    sizes.iter().enumerate().flat_map(|(n, size)| [noise(n as u64, *size), text(n as u64, *size)]).collect()
}

/// A blob can be asked for and read, whole and in random parts.
fn check(files: &dyn Files, hash: &BlobHash, content: &[u8]) {
    let len = content.len() as u64;
    assert_eq!(files.size(hash).unwrap(), Some(len));
    assert_eq!(files.uploaded(hash).unwrap(), len);
    assert!(files.read(hash, 0, MAX_READ).unwrap() == content, "{len} bytes");
    let mut rng = Rng(len + 1);
    for _ in 0..20 {
        let (offset, size) = (rng.below(len + 10), rng.below(len + 10) as usize);
        let start = (offset as usize).min(content.len());
        let expect = &content[start..start.saturating_add(size).min(content.len())];
        assert!(files.read(hash, offset, size).unwrap() == expect, "{size} bytes at {offset} of {len}");
    }
    assert_eq!(files.read(hash, u64::MAX, 10).unwrap(), b"");
}

fn what_is_put_is_read(files: &dyn Files) {
    for content in contents() {
        let hash = files.put(&content).unwrap();
        assert_eq!(hash, hash_of(&content));
        check(files, &hash, &content);
    }
    files.sync().unwrap();
    for content in contents() {
        check(files, &hash_of(&content), &content);
    }
}

fn what_was_never_stored_is_missing(files: &dyn Files) {
    let hash = hash_of(b"never stored");
    assert_eq!(files.size(&hash).unwrap(), None);
    assert_eq!(files.uploaded(&hash).unwrap(), 0);
    assert!(matches!(files.read(&hash, 0, 1), Err(FilesError::Missing { hash: named }) if named == hash));
}

fn putting_again_changes_nothing(files: &dyn Files) {
    for content in contents() {
        let hash = files.put(&content).unwrap();
        assert_eq!(files.put(&content).unwrap(), hash);
        files.sync().unwrap();
        assert_eq!(files.put(&content).unwrap(), hash);
        check(files, &hash, &content);
    }
}

fn an_upload_in_pieces_becomes_the_blob(files: &dyn Files) {
    for content in contents() {
        let (hash, total) = (hash_of(&content), content.len() as u64);
        let piece = (content.len() / 3).max(1);
        let mut stands = 0;
        loop {
            assert_eq!(files.uploaded(&hash).unwrap(), stands as u64);
            let end = (stands + piece).min(content.len());
            let upload = files.append(&hash, total, stands as u64, &content[stands..end]).unwrap();
            if end == content.len() {
                assert_eq!(upload, Upload::Complete);
                break;
            }
            assert_eq!(upload, Upload::Partial { next: end as u64 });
            assert_eq!(files.size(&hash).unwrap(), None);
            stands = end;
        }
        check(files, &hash, &content);
        // The answer to the last piece was lost, and the piece comes again.
        assert_eq!(files.append(&hash, total, stands as u64, &content[stands..]).unwrap(), Upload::Complete);
        check(files, &hash, &content);
    }
}

fn an_upload_refuses_what_does_not_fit(files: &dyn Files) {
    let content = text(1, 1000);
    let hash = hash_of(&content);
    let offset =
        |found| move |e: &FilesError| matches!(e, FilesError::Offset { expected, .. } if *expected == found);
    assert!(offset(0)(&files.append(&hash, 1000, 5, &content[5..9]).unwrap_err()));
    files.append(&hash, 1000, 0, &content[..400]).unwrap();
    assert!(offset(400)(&files.append(&hash, 1000, 0, &content[..400]).unwrap_err()));
    assert!(offset(400)(&files.append(&hash, 1000, 401, &content[401..]).unwrap_err()));
    let past = files.append(&hash, 1000, 400, &[0; 601]);
    assert!(matches!(past, Err(FilesError::PastEnd { end: 1001, total: 1000, .. })));
    assert!(matches!(files.append(&hash, MAX_BLOB + 1, 400, b"x"), Err(FilesError::TooLarge { .. })));
    assert_eq!(files.append(&hash, 1000, 400, b"").unwrap(), Upload::Partial { next: 400 });
    assert_eq!(files.append(&hash, 1000, 400, &content[400..]).unwrap(), Upload::Complete);
    check(files, &hash, &content);
}

fn an_upload_of_other_bytes_is_discarded(files: &dyn Files) {
    for len in [10, PACK_MAX + 10] {
        let content = noise(1, len);
        let (hash, other) = (hash_of(&content), noise(2, len));
        files.append(&hash, len as u64, 0, &other[..4]).unwrap();
        let mismatch = files.append(&hash, len as u64, 4, &other[4..]);
        assert!(matches!(mismatch, Err(FilesError::HashMismatch { found, .. }) if found == hash_of(&other)));
        assert_eq!((files.size(&hash).unwrap(), files.uploaded(&hash).unwrap()), (None, 0));
        assert_eq!(files.size(&hash_of(&other)).unwrap(), None);
        assert_eq!(files.append(&hash, len as u64, 0, &content).unwrap(), Upload::Complete);
        check(files, &hash, &content);
    }
}

fn an_upload_begun_with_a_wrong_size_starts_over(files: &dyn Files) {
    let content = text(3, 100);
    let hash = hash_of(&content);
    files.append(&hash, 5000, 0, &[7; 200]).unwrap();
    let restart = files.append(&hash, 100, 200, b"");
    assert!(matches!(restart, Err(FilesError::Offset { expected: 0, found: 200, .. })));
    assert_eq!(files.append(&hash, 100, 0, &content).unwrap(), Upload::Complete);
    check(files, &hash, &content);
}

fn uploads_of_one_blob_from_many_threads_end_in_one_blob(files: &dyn Files) {
    for len in [40_000, 700_000] {
        let content = text(len as u64, len);
        let (hash, start) = (hash_of(&content), Barrier::new(8));
        let upload = || {
            start.wait();
            let mut stands = 0;
            loop {
                let end = (stands + len / 10).min(len);
                match files.append(&hash, len as u64, stands as u64, &content[stands..end]) {
                    Ok(Upload::Complete) => return,
                    Ok(Upload::Partial { next }) => stands = next as usize,
                    Err(FilesError::Offset { expected, .. }) => stands = expected as usize,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(upload);
            }
        });
        check(files, &hash, &content);
    }
}

fn a_writer_names_what_it_wrote(files: &dyn Files) {
    for content in contents() {
        let mut writer = files.create().unwrap();
        for piece in content.chunks(50_001) {
            writer.write(piece).unwrap();
        }
        let hash = hash_of(&content);
        assert_eq!(writer.finish().unwrap(), (hash, content.len() as u64));
        check(files, &hash, &content);
    }
}

fn a_dropped_writer_leaves_nothing(files: &dyn Files) {
    for len in [10, 3 * PACK_MAX] {
        let content = noise(len as u64, len);
        let mut writer = files.create().unwrap();
        writer.write(&content).unwrap();
        drop(writer);
        assert_eq!(files.size(&hash_of(&content)).unwrap(), None);
    }
}

fn a_slice_reads_as_the_range_of_its_parent(files: &dyn Files) {
    for len in [1000, 3 << 20] {
        let content = text(5, len);
        let parent = files.put(&content).unwrap();
        let of = |range: std::ops::Range<usize>| Slice {
            hash: hash_of(&content[range.clone()]),
            parent,
            offset: range.start as u64,
            len: range.len() as u64,
        };
        let ranges = [0..10, 100..400, 999..1000, 500..500, len / 3..len / 2 + 1];
        files.put_slices(&ranges.clone().map(of)).unwrap();
        files.put_slice(&of(0..10)).unwrap();
        for range in ranges {
            check(files, &hash_of(&content[range.clone()]), &content[range]);
        }
        // A slice of a slice, and a slice that is stored by itself as well.
        let (outer, inner) = (of(100..400), of(150..160));
        files.put_slice(&Slice { parent: outer.hash, offset: 50, ..inner }).unwrap();
        check(files, &inner.hash, &content[150..160]);
        assert_eq!(files.put(&content[100..400]).unwrap(), outer.hash);
        files.sync().unwrap();
        check(files, &outer.hash, &content[100..400]);
    }
}

fn slices_are_checked_before_any_is_visible(files: &dyn Files) {
    let content = text(6, 100);
    let parent = files.put(&content).unwrap();
    let good = Slice { hash: hash_of(&content[..10]), parent, offset: 0, len: 10 };
    for (offset, len) in [(91, 10), (101, 0), (u64::MAX, 2), (2, u64::MAX)] {
        let bad = Slice { hash: hash_of(b"bad"), parent, offset, len };
        let refused = files.put_slices(&[good, bad]);
        assert!(matches!(refused, Err(FilesError::SliceRange { size: 100, .. })), "{offset} {len}");
    }
    let orphan = Slice { hash: hash_of(b"bad"), parent: hash_of(b"nobody"), offset: 0, len: 1 };
    assert!(matches!(files.put_slices(&[good, orphan]), Err(FilesError::Missing { .. })));
    assert_eq!(files.size(&good.hash).unwrap(), None);
    files.put_slices(&[]).unwrap();
}

fn a_slice_that_lies_is_never_read_as_a_whole(files: &dyn Files) {
    let parent = files.put(&text(7, 100)).unwrap();
    let lie = Slice { hash: hash_of(b"something else"), parent, offset: 3, len: 14 };
    files.put_slice(&lie).unwrap();
    assert!(
        matches!(files.read(&lie.hash, 0, 100), Err(FilesError::Corrupt { hash, .. }) if hash == lie.hash)
    );
}

fn a_read_has_a_longest_length(files: &dyn Files) {
    let hash = files.put(b"short").unwrap();
    assert!(matches!(files.read(&hash, 0, MAX_READ + 1), Err(FilesError::ReadTooLong { .. })));
}

fn puts_from_eight_threads_are_all_there(files: &dyn Files) {
    // Half of what each thread puts is its own, half all of them put.
    let content = |thread: u64, n: u64| match n % 2 {
        0 => text(n, 100 + n as usize * 37),
        _ => noise(thread * 1000 + n, 100 + n as usize * 41),
    };
    let start = Barrier::new(8);
    thread::scope(|scope| {
        for thread in 0..8 {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                for n in 0..100 {
                    let content = content(thread, n);
                    let hash = files.put(&content).unwrap();
                    assert!(files.read(&hash, 0, MAX_READ).unwrap() == content);
                    if n % 25 == 0 {
                        files.sync().unwrap();
                    }
                }
            });
        }
    });
    for (thread, n) in (0..8).flat_map(|thread| (0..100).map(move |n| (thread, n))) {
        let content = content(thread, n);
        check(files, &hash_of(&content), &content);
    }
}

/// One random operation, as text that is the same for stores that behave the same.
fn operate(files: &dyn Files, rng: &mut Rng, pool: &[Vec<u8>]) -> String {
    let content = &pool[rng.below(pool.len() as u64) as usize];
    let (hash, len) = (hash_of(content), content.len() as u64);
    let (start, size) = (rng.below(len + 2), rng.below(len + 2));
    let (start, end) = (start.min(len) as usize, start.saturating_add(size).min(len) as usize);
    let parent = hash_of(&pool[rng.below(pool.len() as u64) as usize]);
    let told = match rng.below(9) {
        0 => files.put(content).map(|hash| hash.to_string()),
        1 => files.size(&hash).map(|size| format!("{size:?}")),
        2 => files.read(&hash, start as u64, size as usize).map(|bytes| hash_of(&bytes).to_string()),
        3 => files.append(&hash, len, start as u64, &content[start..end]).map(|upload| format!("{upload:?}")),
        4 | 5 => files.uploaded(&hash).and_then(|stands| {
            let stands = (stands as usize).min(content.len());
            let end = (stands + content.len() / 3 + 1).min(content.len());
            files.append(&hash, len, stands as u64, &content[stands..end]).map(|upload| format!("{upload:?}"))
        }),
        6 => files.append(&hash, len, 0, &vec![0; content.len()]).map(|upload| format!("{upload:?}")),
        7 => {
            let slice =
                Slice { hash: hash_of(&content[start..end]), parent: hash, offset: start as u64, len: 0 };
            let slice = Slice { len: (end - start) as u64, ..slice };
            files.put_slices(&[slice, Slice { parent, ..slice }]).map(|()| slice.hash.to_string())
        }
        _ => files.sync().map(|()| "synced".to_owned()),
    };
    told.unwrap_or_else(|error| match error {
        FilesError::Corrupt { hash, .. } => format!("{hash} is damaged"),
        error => error.to_string(),
    })
}

#[test]
fn the_stores_tell_the_same_story() {
    let pool: Vec<_> = contents().into_iter().filter(|content| content.len() < 200_000).collect();
    for seed in 1..=30 {
        let directory = tempfile::tempdir().unwrap();
        let memory = MemoryFiles::new();
        let mut files = DirectoryFiles::open(directory.path(), config()).unwrap();
        let (mut one, mut other) = (Rng(seed), Rng(seed));
        for step in 0..150 {
            if step % 40 == 39 {
                drop(files);
                files = DirectoryFiles::open(directory.path(), config()).unwrap();
                assert_eq!(files.damage(), []);
            }
            let (told, expect) = (operate(&files, &mut one, &pool), operate(&memory, &mut other, &pool));
            assert_eq!(told, expect, "step {step} of seed {seed}");
        }
    }
}
