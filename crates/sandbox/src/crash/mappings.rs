//! The mappings of a process that can be executed, as in proc_pid_maps(5).

/// A range of a process's memory with a file's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub begin: u64,
    pub end: u64,
    /// Where in the file it begins.
    pub offset: u64,
    /// Inside the sandbox; nothing for memory that is no file's.
    pub path: Option<String>,
}

impl Mapping {
    pub fn holds(&self, address: u64) -> bool {
        (self.begin..self.end).contains(&address)
    }
}

/// Most mappings that are looked at.
const MAX: usize = 1_024;

/// Reads the lines that can be read, in order of address.
pub(super) fn parse(text: &[u8]) -> Vec<Mapping> {
    let lines = text.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let mut mappings: Vec<Mapping> = lines.filter_map(mapping).take(MAX).collect();
    mappings.sort_by_key(|mapping| mapping.begin);
    mappings
}

fn mapping(line: &str) -> Option<Mapping> {
    let mut rest = line;
    let mut field = || {
        let (field, after) = rest.trim_start().split_once(' ')?;
        rest = after;
        Some(field)
    };
    let (range, _rights, offset) = (field()?, field()?, field()?);
    let (_device, _inode) = (field()?, field()?);
    let (begin, end) = range.split_once('-')?;
    let number = |digits| u64::from_str_radix(digits, 16).ok();
    let (begin, end, offset) = (number(begin)?, number(end)?, number(offset)?);
    let path = rest.trim_start();
    let path = path.starts_with('/').then(|| path.chars().filter(|c| !c.is_control()).collect());
    (begin < end).then_some(Mapping { begin, end, offset, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_the_kernel_writes_them() {
        let text = b"7f00-8000 r-xp 00001000 08:01 12                         /lib/a b.so\n\
                     1000-2000 r-xp 00000000 00:00 0                          [vdso]\n\
                     9000-8000 r-xp 00000000 00:00 0                          /x\n\
                     nonsense\n\xff\xff\n5000-6000 r-xp 00000000 00:00 0 \n";
        let found = parse(text);
        let paths: Vec<_> = found.iter().map(|mapping| (mapping.begin, mapping.path.as_deref())).collect();
        assert_eq!(paths, [(0x1000, None), (0x5000, None), (0x7f00, Some("/lib/a b.so"))]);
        assert_eq!((found[2].end, found[2].offset), (0x8000, 0x1000));
        assert!(found[2].holds(0x7fff) && !found[2].holds(0x8000));
    }
}
