//! Crashes made up of this very process, and of nonsense.

use portal_loader::frame::{self, CRASH_WORDS};

use super::*;

/// A frame of a crash at `registers`.
fn directory(root: impl Into<std::path::PathBuf>) -> Tree {
    Tree::Directory(root.into())
}

fn frame(words: &[(usize, u64)], stack: &[u8], mappings: &[u8]) -> Vec<u8> {
    let mut all = [0_u64; CRASH_WORDS];
    all[0] = frame::CRASHED;
    all[frame::SIGNAL_AND_CODE] = frame::join(11, 1);
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
    all[frame::LENGTHS] = frame::join(length(stack), length(mappings));
    words.iter().for_each(|(at, word)| all[*at] = *word);
    let mut bytes: Vec<u8> = all.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend(stack);
    bytes.extend(mappings);
    bytes
}

/// The lines of this process's own mappings that can be executed.
fn own_mappings() -> String {
    let text = std::fs::read_to_string("/proc/self/maps").unwrap();
    text.lines().filter(|line| line.contains("r-xp")).map(|line| line.to_owned() + "\n").collect()
}

#[inline(never)]
fn a_function_to_be_found() -> u64 {
    std::hint::black_box(7)
}

#[test]
fn a_function_of_this_program_is_found_by_its_address() {
    let at = a_function_to_be_found as fn() -> u64 as usize as u64;
    let pc = (frame::FIRST_REGISTER + frame::RIP, at + 1);
    let crash = explain(&directory("/"), &frame(&[pc], &[], own_mappings().as_bytes())).unwrap();
    let expect = "sandbox::crash::tests::a_function_to_be_found+0x1 in /";
    assert!(crash.backtrace[0].starts_with(expect), "{crash:?}");
    assert_eq!((crash.signal, crash.address), (11, Some(0)));
}

#[test]
fn files_outside_of_the_tree_are_not_looked_at() {
    let tree = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/proc/self/exe", tree.path().join("exe")).unwrap();
    let check = |path: &str, expect: &str| {
        let mappings = format!("1000-2000 r-xp 00000000 08:01 12 {path}\n");
        let pc = (frame::FIRST_REGISTER + frame::RIP, 0x1234);
        let crash = explain(&directory(tree.path()), &frame(&[pc], &[], mappings.as_bytes())).unwrap();
        assert_eq!(crash.backtrace, [expect]);
    };
    let own = std::env::current_exe().unwrap();
    let outside = format!("/../../../../../..{}", own.display());
    check(&outside, &format!("0x1234 in {outside}"));
    check("/exe", "0x1234 in /exe");
    check("[vdso]", "0x1234");
}

#[test]
fn addresses_are_told_only_where_the_kernel_has_one() {
    let check = |signal: i32, code: i32, expect: Option<u64>| {
        let kind = (frame::SIGNAL_AND_CODE, frame::join(signal.cast_unsigned(), code.cast_unsigned()));
        let bytes = frame(&[kind, (frame::ADDRESS_OF_FAULT, 0xbeef)], &[], &[]);
        assert_eq!(explain(&directory("/"), &bytes).unwrap().address, expect, "signal {signal}, code {code}");
    };
    check(libc::SIGSEGV, 1, Some(0xbeef));
    check(libc::SIGSEGV, NO_ADDRESS, None);
    check(libc::SIGSEGV, 0, None);
    check(libc::SIGABRT, -6, None);
}

/// Mutates a sound crash of this process, whose mappings, headers and rules are all real, in 20,000 ways from a fixed
/// seed: no panic, no hang, never more frames than are reported.
#[test]
fn no_bytes_make_it_panic_or_hang() {
    let mappings = own_mappings();
    let at = a_function_to_be_found as fn() -> u64 as usize as u64;
    let stack: Vec<u8> = (0..512_u64).flat_map(|word| (at + word % 64).to_le_bytes()).collect();
    let good = frame(
        &[
            (frame::FIRST_REGISTER + frame::RIP, at + 1),
            (frame::FIRST_REGISTER + frame::RSP, 0x7000_0000),
            (frame::FIRST_REGISTER + frame::RBP, 0x7000_0100),
            (frame::STACK_BEGINS, 0x7000_0000),
        ],
        &stack,
        mappings.as_bytes(),
    );
    // Small files, so that the time goes into the ways and not into the tables of one program.
    let tree = tempfile::tempdir().unwrap();
    let mut random = crate::testing::random();
    for turn in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..=random(6) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = u8::try_from(random(256)).unwrap(),
                1 if random(8) == 0 => bytes.truncate(1 + at),
                // In the words before the stack.
                2 => bytes[at.min(random(CRASH_WORDS * 8))] = 0xff,
                _ => bytes[at] ^= 1 << random(8),
            }
        }
        let root = if turn % 400 == 0 { std::path::Path::new("/") } else { tree.path() };
        if let Some(crash) = explain(&directory(root), &bytes) {
            assert!(crash.backtrace.len() <= MAX_FRAMES);
        }
    }
}
