//! Memory that belongs to no process: what lies in the memory file systems, and System V segments, which stay when
//! everybody has let go of them.

use std::fs;

use rustix::fs::statvfs;

/// Bytes of it all.
pub(super) fn used() -> u64 {
    let files = |path| statvfs(path).map_or(0, |found| (found.f_blocks - found.f_bfree) * found.f_frsize);
    let segments = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    files("/tmp") + files("/dev/shm") + in_segments(&segments)
}

/// Of sysvipc/shm in proc(5): a heading, then a segment per line, of which the 15th and 16th field are the bytes in
/// memory and in swap.
fn in_segments(text: &str) -> u64 {
    let held = |line: &str| -> u64 {
        line.split_whitespace().skip(14).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
    };
    text.lines().skip(1).map(held).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_count_with_what_they_hold() {
        let text = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      \
                    atime      dtime      ctime                   rss                  swap\n         0          1   \
                    600              16777216    12    12      0  1000  1000  1000  1000          1          2        \
                    3              8192                  4096\n";
        assert_eq!(in_segments(text), 12_288);
        assert_eq!(in_segments(""), 0);
        assert_eq!(in_segments("heading\n1 2 3\n"), 0);
    }
}
