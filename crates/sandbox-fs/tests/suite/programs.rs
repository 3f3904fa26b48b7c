//! Programs that every machine has, on the mount.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{CWD, FallocateFlags, RenameFlags, XattrFlags};
use rustix::io::Errno;
use sandbox_fs::fuse::{SessionOptions, Writes, Xattrs};

use crate::harness::{Mount, has, skip};

fn mount() -> Option<Mount> {
    Mount::new(SessionOptions::default())
}

#[test]
fn programs_work() {
    let Some(mut mount) = mount() else { return };
    mount.shell(
        "mkdir -p a/b; seq 1 200000 >a/numbers; cp a/numbers a/b/copy; cmp a/numbers a/b/copy
         dd if=/dev/urandom of=random bs=8k count=1000 status=none; dd if=random of=again bs=1M status=none
         cmp random again; mv again a/b/moved; cmp random a/b/moved; ln random hard; test random -ef hard
         ln -s a/b/copy soft; cmp soft a/numbers; test $(readlink soft) = a/b/copy
         tail -c 1000 random >tail; printf more >>tail; test $(stat -c %s tail) = 1004
         truncate -s 10 tail; test $(stat -c %s tail) = 10; mkfifo pipe; test -p pipe",
    );
    if has("tar") {
        mount.shell("tar cf all.tar a soft hard; mkdir out; tar xf all.tar -C out; diff -r a out/a; cmp random out/hard");
    }
    mount.shell("rm -r *; test -z \"$(ls -A)\"");
    mount.end();
}

#[test]
fn everything_is_forgotten() {
    let Some(mut mount) = mount() else { return };
    mount.shell("mkdir d; for i in $(seq 100); do echo $i >d/$i; done; ls -l d; rm -r d");
    let file = File::create(mount.at("open")).unwrap();
    fs::remove_file(mount.at("open")).unwrap();
    (&file).write_all(b"still there").unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    drop(file);
    // All that had no name goes: look-ups and forgets are counted alike. Forgets have no answer to wait for.
    let deadline = Instant::now() + Duration::from_secs(10);
    let usage = || (mount.files.usage().inodes, mount.files.usage().bytes);
    while usage() != (0, 0) && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(usage(), (0, 0));
    mount.end();
}

#[test]
fn shared_memory_maps_work() {
    let python = Path::new("/usr/bin/python3");
    if !python.exists() {
        return skip("no /usr/bin/python3");
    }
    let Some(mut mount) = mount() else { return };
    let script = "import mmap
with open('map', 'wb+') as f:
    f.truncate(1 << 20)
    m = mmap.mmap(f.fileno(), 1 << 20)
    for i in range(0, 1 << 20, 4096): m[i:i + 4] = i.to_bytes(4, 'little')
    m.flush()
    f.seek(8192); assert int.from_bytes(f.read(4), 'little') == 8192
    f.seek(4096); f.write(b'abcd'); f.flush(); assert m[4096:4100] == b'abcd'
    m.close()
with open('map', 'rb') as f:
    m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
    assert m[4096:4100] == b'abcd' and int.from_bytes(m[-4096:-4092], 'little') == (1 << 20) - 4096";
    let run = Command::new(python).args(["-c", script]).current_dir(mount.path()).output().unwrap();
    assert!(run.status.success(), "{run:?}");
    mount.end();
}

#[test]
fn rare_calls_work() {
    let Some(mut mount) = mount() else { return };
    let (a, b) = (mount.at("a"), mount.at("b"));
    fs::write(&a, "aaaa").unwrap();
    fs::write(&b, "bb").unwrap();
    rustix::fs::renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE).unwrap();
    assert_eq!((fs::read(&a).unwrap(), fs::read(&b).unwrap()), (b"bb".to_vec(), b"aaaa".to_vec()));
    let rename = |flags| rustix::fs::renameat_with(CWD, &a, CWD, &b, flags);
    assert_eq!(rename(RenameFlags::NOREPLACE), Err(Errno::EXIST));
    assert_eq!(rename(RenameFlags::WHITEOUT), Err(Errno::INVAL));

    let unnamed = OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).open(mount.path());
    let mut unnamed = unnamed.unwrap();
    unnamed.write_all(b"found").unwrap();
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&unnamed));
    rustix::fs::linkat(CWD, link, CWD, mount.at("named"), rustix::fs::AtFlags::SYMLINK_FOLLOW).unwrap();
    assert_eq!(fs::read(mount.at("named")).unwrap(), b"found");

    let file = OpenOptions::new().read(true).write(true).create_new(true).open(mount.at("holes")).unwrap();
    file.write_all_at(&[1; 16384], 0).unwrap();
    let allocate = |flags, offset, length| rustix::fs::fallocate(&file, flags, offset, length);
    allocate(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 4096, 4096).unwrap();
    allocate(FallocateFlags::ZERO_RANGE, 16000, 1000).unwrap();
    allocate(FallocateFlags::empty(), 0, 20000).unwrap();
    assert_eq!(allocate(FallocateFlags::COLLAPSE_RANGE, 0, 4096), Err(Errno::OPNOTSUPP));
    let data = fs::read(mount.at("holes")).unwrap();
    assert_eq!(data.len(), 20000);
    let ones = |range: std::ops::Range<usize>| data[range].iter().all(|byte| *byte == 1);
    assert!(ones(0..4096) && ones(8192..16000), "what was written stays");
    assert_eq!(data.iter().filter(|byte| **byte == 1).count(), 4096 + 16000 - 8192);

    let copy = File::create(mount.at("copied")).unwrap();
    let mut offset = 100;
    assert_eq!(rustix::fs::copy_file_range(&file, Some(&mut offset), &copy, None, 8000), Ok(8000));
    assert_eq!(fs::read(mount.at("copied")).unwrap(), data[100..8100]);
    file.sync_all().unwrap();
    File::open(mount.path()).unwrap().sync_all().unwrap();
    assert_eq!((&file).seek(SeekFrom::End(0)).unwrap(), 20000);
    drop((unnamed, file, copy));
    mount.end();
}

#[test]
fn extended_attributes_work_or_are_refused() {
    let Some(mut mount) = mount() else { return };
    let path = mount.at("a");
    fs::write(&path, "").unwrap();
    let mut room = [0; 64];
    rustix::fs::setxattr(&path, "user.color", b"blue", XattrFlags::CREATE).unwrap();
    let again = rustix::fs::setxattr(&path, "user.color", b"red", XattrFlags::CREATE);
    assert_eq!(again, Err(Errno::EXIST));
    let length = rustix::fs::getxattr(&path, "user.color", &mut room[..]).unwrap();
    assert_eq!(&room[..length], b"blue");
    assert_eq!(rustix::fs::getxattr(&path, "user.color", &mut [0; 2][..]), Err(Errno::RANGE));
    let length = rustix::fs::listxattr(&path, &mut room[..]).unwrap();
    assert_eq!(&room[..length], b"user.color\0");
    rustix::fs::removexattr(&path, "user.color").unwrap();
    assert_eq!(rustix::fs::getxattr(&path, "user.color", &mut room[..]), Err(Errno::NODATA));
    mount.end();

    let options = SessionOptions { xattrs: Xattrs::Refused, ..SessionOptions::default() };
    let Some(mut mount) = Mount::new(options) else { return };
    let path = mount.at("a");
    fs::write(&path, "").unwrap();
    let refused = rustix::fs::setxattr(&path, "user.color", b"blue", XattrFlags::empty());
    assert_eq!(refused, Err(Errno::OPNOTSUPP));
    mount.end();
}

#[test]
fn long_names_and_many_names() {
    let Some(mut mount) = mount() else { return };
    let longest = "x".repeat(255);
    fs::write(mount.at(&longest), "").unwrap();
    let longer = fs::write(mount.at(&"x".repeat(256)), "").unwrap_err();
    assert_eq!(longer.raw_os_error(), Some(Errno::NAMETOOLONG.raw_os_error()));
    for number in 0..3000 {
        File::create(mount.at(&format!("{number:04}"))).unwrap();
    }
    let list = || {
        let entries = fs::read_dir(mount.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let expect: Vec<_> = (0..3000).map(|number| format!("{number:04}")).chain([longest]).collect();
    assert_eq!(list(), expect);
    // From the kernel's cache this time.
    assert_eq!(list(), expect);
    fs::remove_file(mount.at("0001")).unwrap();
    assert_eq!(list().len(), 3000);
    mount.end();
}

#[test]
fn writing_drops_set_user_id() {
    let Some(mut mount) = mount() else { return };
    if !has("setpriv") {
        return;
    }
    for (writes, name) in [(Writes::Back, "back"), (Writes::Through, "through")] {
        let options = SessionOptions { writes, ..SessionOptions::default() };
        let Some(mut mount) = Mount::new(options) else { return };
        mount.shell(&format!("echo x >{name}; chmod 6777 {name}"));
        fs::set_permissions(mount.path(), fs::Permissions::from_mode(0o777)).unwrap();
        mount.shell(&format!(
            "exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --bounding-set=-all \
             sh -c 'echo y >>{name}'"
        ));
        assert_eq!(fs::metadata(mount.at(name)).unwrap().mode() & 0o7777, 0o777, "{writes:?}");
        mount.end();
    }
    mount.end();
}

#[test]
fn writes_through_work() {
    let options = SessionOptions { writes: Writes::Through, ..SessionOptions::default() };
    let Some(mut mount) = Mount::new(options) else { return };
    let mut file = File::create_new(mount.at("a")).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    file.set_modified(old).unwrap();
    for number in 0..300_u32 {
        file.write_all(&number.to_le_bytes().repeat(250)).unwrap();
    }
    let made = file.metadata().unwrap();
    assert!(made.modified().unwrap() > old, "the time of writing");
    drop(file);
    let expect: Vec<u8> = (0..300_u32).flat_map(|number| number.to_le_bytes().repeat(250)).collect();
    assert!(fs::read(mount.at("a")).unwrap() == expect);
    mount.end();
}
