//! The format of a checkpoint: its golden file, and what becomes of it when it is mangled.

use std::path::Path;

use super::super::checkpoint::{decode, encode, read_expected};
use super::*;

const NAME: &str = "checkpoint-1.bin";

fn sample() -> (Vec<u8>, Root) {
    let salt = [3; SALT];
    let suite = Suite::Aes256Gcm;
    let head = Head { slots: 70_000, generation: 9, sessions: vec![(1, [4; SALT]), (2, salt)] };
    let key = key(1).session(suite, &salt).of_state();
    encode(suite, &salt, Version::new(2, 77), &key, &head, b"names and places of blocks").unwrap()
}

/// What was written by the first version opens. With `DCGRID_GOLDEN=write` the file is made anew first: for a format
/// that changes on purpose, along with its number.
#[test]
fn a_checkpoint_is_the_golden_one() {
    let (bytes, root) = sample();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/golden").join(NAME);
    if std::env::var_os("DCGRID_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(&path, &bytes).unwrap();
    }
    let golden = std::fs::read(&path).unwrap();
    assert_eq!(bytes, golden);
    let root: String = root.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        root, "3ef54295b17fb0b43f3ee7da3c8b781b2ac10a7cc950349bc68e9adb64234171",
        "as sha256sum(1) has it"
    );
    let (suite, head, state) = decode(golden, &key(1)).unwrap();
    assert_eq!((suite, head.slots, head.generation), (Suite::Aes256Gcm, 70_000, 9));
    assert_eq!(head.sessions, [(1, [4; SALT]), (2, [3; SALT])]);
    assert_eq!(state, b"names and places of blocks");
}

/// References are part of the state that the store's caller seals: they must mean the same tomorrow.
#[test]
fn a_reference_has_the_golden_bytes() {
    let block = BlockRef { slot: Slot::new(300), version: Version::new(2, 77), tag: [5; TAG] };
    let bytes = postcard::to_stdvec(&block).unwrap();
    let expected = [&[0xac, 0x02, 0xcd, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01][..], &[5; TAG]].concat();
    assert_eq!(bytes, expected);
    assert_eq!(postcard::from_bytes::<BlockRef>(&bytes).unwrap(), block);
    let nowhere = [&[0][..], &bytes[2..]].concat();
    assert!(postcard::from_bytes::<BlockRef>(&nowhere).is_err(), "there is no slot 0");
}

#[test]
fn a_format_or_suite_of_tomorrow_is_named() {
    for (byte, format, suite) in [(8, 9, 1), (9, 1, 9)] {
        let (mut file, _) = sample();
        file[byte] = 9;
        match decode(file, &key(1)) {
            Err(StoreError::UnknownFormat { format: told, suite: with }) => {
                assert_eq!((told, with), (format, suite));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Changes a file in one to four of the ways in which bytes can be changed.
fn mangle(file: &mut Vec<u8>, numbers: &mut Numbers) {
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(file.len() as u64 + 1) as usize;
        match numbers.below(6) {
            0 if at < file.len() => file[at] ^= 1 << numbers.below(8),
            1 if at < file.len() => file[at] = numbers.one_of(&[0, 1, 0x7f, 0x80, 0xff]),
            2 => file.truncate(at),
            3 => file.insert(at, numbers.next() as u8),
            4 => {
                let more = numbers.below(100) as usize;
                file.splice(at..at, std::iter::repeat_n(numbers.next() as u8, more));
            }
            _ => {
                let end = (at + numbers.below(40) as usize).min(file.len());
                file.drain(at..end);
            }
        }
    }
}

#[test]
fn a_mangled_checkpoint_is_never_accepted() {
    let (good, root) = sample();
    let mut numbers = Numbers::from(5);
    let mut same = 0;
    for _ in 0..20_000 {
        let mut file = good.clone();
        mangle(&mut file, &mut numbers);
        if file == good {
            same += 1;
            continue;
        }
        let open = || Ok(Some(Box::new(&file[..]) as Box<dyn std::io::Read>));
        assert!(read_expected(&root, open).unwrap().is_none(), "by its root");
        // Even to somebody who has no root.
        decode(file, &key(1)).unwrap_err();
    }
    assert!(same < 200, "{same}");
}

/// Nobody without the key can seal; this is for the parser alone.
#[test]
fn a_mangled_text_that_is_sealed_well_is_no_danger() {
    let salt = [3; SALT];
    let session = key(1).session(Suite::Aes256Gcm, &salt).of_state();
    let (mut good, _) = sample();
    let (header, text) = good.split_at_mut(56);
    let tag: [u8; TAG] = header[40..].try_into().unwrap();
    session.open(Version::new(2, 77).nonce(), &header[..40], &tag, text).unwrap();
    let mut numbers = Numbers::from(6);
    let (mut read, mut senseless) = (0, 0);
    for _ in 0..20_000 {
        let mut text = text.to_vec();
        mangle(&mut text, &mut numbers);
        let tag = session.seal(Version::new(2, 77).nonce(), &header[..40], &mut text);
        let file = [&header[..40], &tag, &text].concat();
        match decode(file, &key(1)) {
            Ok(_) => read += 1,
            Err(StoreError::Senseless { .. }) => senseless += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(read > 1000 && senseless > 1000, "{read}, {senseless}");
}
