//! What a process that called `keep_memory_secret` looks like from outside. A binary of its own, for it changes the whole
//! process.

use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};
use sandbox_fs::seal::{Secrecy, StoreKey, keep_memory_secret};

#[test]
fn memory_is_neither_dumped_nor_swapped() {
    let before = vec![1u8; 1 << 20];
    let secrecy = keep_memory_secret().unwrap();
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    let core = getrlimit(Resource::Core);
    assert_eq!((core.current, core.maximum), (Some(0), Some(0)));

    let key = StoreKey::random().unwrap();
    let after = vec![1u8; 1 << 20];
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
    let locked: usize = locked.trim().trim_end_matches(" kB").parse().unwrap();
    let expected = match secrecy {
        Secrecy::WholeProcess => (before.len() + after.len()) >> 10,
        Secrecy::StoreKeys => {
            println!("skipped: this account may not lock a whole process");
            4
        }
    };
    assert!(locked >= expected, "{locked} KiB are locked, not {expected}");
    drop(key);
}
