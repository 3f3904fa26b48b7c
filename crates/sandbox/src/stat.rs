//! The stat file of a process or thread in /proc. A name may be of any bytes, not only text, and hold blanks and
//! brackets: a program that could make us fail to read it would go uncounted.

use std::fs;
use std::path::Path;

/// What follows the name: field 3 of proc(5) and on, with single blanks between. None when it has ended.
pub(crate) fn read(path: impl AsRef<Path>) -> Option<String> {
    after_name(&fs::read(path).ok()?).map(str::to_owned)
}

/// The kernel writes only numbers and a letter after the name, so the last bracket is the one that ends it.
pub(crate) fn after_name(stat: &[u8]) -> Option<&str> {
    let end = stat.windows(2).rposition(|two| two == b") ")?;
    std::str::from_utf8(stat.get(end + 2..)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_hides_what_follows() {
        let mut random = crate::testing::random();
        let parts: [&[u8]; 8] = [b") ", b"(", b") R 1 1", b"\xff", b"\xc3", b"\n", b" ", b"a"];
        for _ in 0..20_000 {
            let name: Vec<u8> = (0..random(6)).flat_map(|_| parts[random(parts.len())]).copied().collect();
            let line = [b"77 (", &name[..], b") S 1 77 0\n"].concat();
            assert_eq!(after_name(&line), Some("S 1 77 0\n"), "{name:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_stat_are_refused() {
        for bytes in [&b""[..], b")", b"77 (a)", b"77 (a) \xff"] {
            assert_eq!(after_name(bytes), None, "{bytes:?}");
        }
        assert_eq!(read("/proc/self/no-such-file"), None);
        assert!(read("/proc/self/stat").is_some());
    }
}
