//! How many round trips common acts cost. Each is 10 µs and more, where the act itself is one.

use std::fs::{self, File};
use std::io::{Read, Write};

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

/// Does `act` with each file and compares the requests.
#[track_caller]
fn check(mount: &Mount, act: impl Fn(&str), expect: &[(Opcode, u64)]) {
    let all = || (0..FILES).for_each(|number| act(mount.at(&number.to_string()).to_str().unwrap()));
    let mut requests = mount.requests_of(all);
    // These come in their own time: what the kernel forgets, and the time of writing if a tick of the clock ended
    // between making and writing.
    requests.retain(|(opcode, count)| match opcode {
        Forget | BatchForget => false,
        SetAttr => *count == FILES,
        _ => true,
    });
    requests.sort();
    let mut expect = expect.to_vec();
    expect.sort();
    assert_eq!(requests, expect);
}

fn write(name: &str) {
    File::create(name).unwrap().write_all(&[7; 1024]).unwrap();
}

fn read(name: &str) {
    // Into room that is there: File::read_to_end would ask for the size.
    assert_eq!(File::open(name).unwrap().read(&mut [0; 4096]).unwrap(), 1024);
}

#[test]
fn small_files() {
    let Some(mut mount) = mount(Xattrs::Served) else { return };
    // The kernel asks for the attributes of a directory after each change of it, to check permissions.
    let one_by_one = FILES - 1;
    check(
        &mount,
        write,
        &[(GetAttr, one_by_one), (LookUp, FILES), (Create, FILES), (GetXattr, FILES), (Write, FILES)],
    );
    // Of the file, whose blocks changed with each; of the directory once.
    check(&mount, |name| assert!(fs::metadata(name).unwrap().is_file()), &[(GetAttr, FILES + 1)]);
    check(&mount, |name| assert!(fs::metadata(name).unwrap().is_file()), &[]);
    check(&mount, read, &[]);
    check(
        &mount,
        |name| fs::remove_file(name).unwrap(),
        &[(GetAttr, one_by_one), (SetAttr, FILES), (Unlink, FILES)],
    );
    check(&mount, |name| assert!(!fs::exists(name).unwrap()), &[(GetAttr, 1), (LookUp, FILES)]);
    // That nothing is there is remembered as well.
    check(&mount, |name| assert!(!fs::exists(name).unwrap()), &[]);
    mount.end();
}

#[test]
fn small_files_without_extended_attributes() {
    let Some(mut mount) = mount(Xattrs::Refused) else { return };
    check(&mount, write, &[(GetAttr, FILES - 1), (LookUp, FILES), (Create, FILES), (Write, FILES)]);
    mount.end();
}
