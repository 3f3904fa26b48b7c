//! How many round trips common acts cost. Each is 10 µs and more, where the act itself is one.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use sandbox_fs::fuse::Opcode::{self, *};
use sandbox_fs::fuse::{SessionOptions, Xattrs};

use crate::harness::Mount;

const FILES: u64 = 100;

/// A mount whose directory the kernel knows, and of which it knows what is not supported.
fn mount(xattrs: Xattrs) -> Option<Mount> {
    let options = SessionOptions { xattrs, ..SessionOptions::default() };
    let mount = Mount::new(options)?;
    fs::write(mount.at("first"), "x").unwrap();
    fs::read(mount.at("first")).unwrap();
    fs::read_dir(mount.path()).unwrap().count();
    Some(mount)
}

/// What is done with each file, and the requests that it costs for all.
type Act = (fn(&Path), &'static [(Opcode, u64)]);

/// The kernel asks for the attributes of a directory after each change of it, to check permissions.
const BETWEEN: u64 = FILES - 1;

#[test]
fn small_files() {
    const ACTS: &[Act] = &[
        (write, &[(GetAttr, BETWEEN), (LookUp, FILES), (MkNod, FILES), (GetXattr, FILES), (Write, FILES)]),
        // Of the file, whose blocks changed with each; of the directory once.
        (is_there, &[(GetAttr, FILES + 1)]),
        (is_there, &[]),
        (read, &[]),
        (remove, &[(GetAttr, BETWEEN), (SetAttr, FILES), (Unlink, FILES)]),
        (is_absent, &[(GetAttr, 1), (LookUp, FILES)]),
        // That nothing is there is remembered as well.
        (is_absent, &[]),
    ];
    check(Xattrs::Served, ACTS);
}

#[test]
fn small_files_without_extended_attributes() {
    const ACTS: &[Act] = &[(write, &[(GetAttr, BETWEEN), (LookUp, FILES), (MkNod, FILES), (Write, FILES)])];
    check(Xattrs::Refused, ACTS);
}

/// Somebody else on the machine may have the kernel forget what it knew, so there are three attempts.
fn check(xattrs: Xattrs, acts: &[Act]) {
    let expect: Vec<Vec<_>> = acts.iter().map(|(_, requests)| sorted(requests.to_vec())).collect();
    let mut requests = Vec::new();
    for _ in 0..3 {
        let Some(mut mount) = mount(xattrs) else { return };
        requests = acts.iter().map(|(act, _)| requests_of(&mount, *act)).collect();
        mount.end();
        if requests == expect {
            return;
        }
    }
    assert_eq!(requests, expect);
}

fn requests_of(mount: &Mount, act: fn(&Path)) -> Vec<(Opcode, u64)> {
    let mut requests =
        mount.requests_of(|| (0..FILES).for_each(|number| act(&mount.at(&number.to_string()))));
    // These come in their own time: what the kernel forgets, and the time of writing if a tick of the clock ended
    // between making and writing.
    requests.retain(|(opcode, count)| match opcode {
        Forget | BatchForget => false,
        SetAttr => *count == FILES,
        _ => true,
    });
    sorted(requests)
}

fn sorted(mut requests: Vec<(Opcode, u64)>) -> Vec<(Opcode, u64)> {
    requests.sort_unstable();
    requests
}

fn write(path: &Path) {
    File::create(path).unwrap().write_all(&[7; 1024]).unwrap();
}

fn read(path: &Path) {
    // Into room that is there: File::read_to_end would ask for the size.
    assert_eq!(File::open(path).unwrap().read(&mut [0; 4096]).unwrap(), 1024);
}

fn is_there(path: &Path) {
    assert!(fs::metadata(path).unwrap().is_file());
}

fn is_absent(path: &Path) {
    assert!(!fs::exists(path).unwrap());
}

fn remove(path: &Path) {
    fs::remove_file(path).unwrap();
}
