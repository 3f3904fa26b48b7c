//! Memory for keys: [`Locked`] stays out of swap, cores and children; [`Wiped`] leaves nothing behind in the heap.

use std::io;
use std::mem::needs_drop;
use std::ops::Deref;
use std::ptr::{NonNull, null_mut};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous, munmap};
use zeroize::Zeroize;

/// The unit of all calls below, on every x86-64.
const PAGE: usize = 4096;

/// `N` bytes in a page of their own, which is never swapped out, never in a core file and reads as zeros in a child;
/// wiped in the end.
pub(crate) struct Locked<const N: usize> {
    page: NonNull<[u8; N]>,
}

impl<const N: usize> Locked<N> {
    /// Zeros.
    ///
    /// # Errors
    /// The kernel's, above all if the process may not lock another page (`RLIMIT_MEMLOCK`).
    pub(crate) fn new() -> io::Result<Locked<N>> {
        const { assert!(N <= PAGE) };
        // SAFETY: a new private mapping, anywhere, touches no memory that exists.
        let page = unsafe {
            mmap_anonymous(null_mut(), PAGE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        }?;
        let page = NonNull::new(page.cast()).expect("a mapping that was made is not at 0");
        // From here on dropping it unmaps the page.
        let locked = Locked { page };
        // SAFETY: the page is ours; locking changes nothing in it.
        unsafe { mlock(locked.page.as_ptr().cast(), PAGE) }?;
        for advice in [Advice::LinuxDontDump, Advice::LinuxWipeOnFork] {
            // SAFETY: the page is ours; neither advice changes what this process sees in it.
            unsafe { madvise(locked.page.as_ptr().cast(), PAGE, advice) }?;
        }
        Ok(locked)
    }

    pub(crate) fn bytes(&self) -> &[u8; N] {
        // SAFETY: the page lives as long as `self`, is at least N bytes of initialized memory, and is only written
        // through `&mut self`.
        unsafe { self.page.as_ref() }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8; N] {
        // SAFETY: as in `bytes`, and `&mut self` excludes every other reference.
        unsafe { self.page.as_mut() }
    }
}

impl<const N: usize> Drop for Locked<N> {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
        // SAFETY: the page is ours and nothing refers to it any more. Unmapping unlocks it too.
        let unmapped = unsafe { munmap(self.page.as_ptr().cast(), PAGE) };
        debug_assert!(unmapped.is_ok(), "a mapping of ours can be unmapped");
    }
}

// SAFETY: the page belongs to this value alone, like a Box.
unsafe impl<const N: usize> Send for Locked<N> {}
// SAFETY: through `&self` it can only be read.
unsafe impl<const N: usize> Sync for Locked<N> {}

/// A value in the heap whose memory is overwritten with zeros in the end: for key schedules of libraries that don't
/// wipe them.
pub(crate) struct Wiped<T>(Box<T>);

impl<T> Wiped<T> {
    pub(crate) fn new(value: T) -> Wiped<T> {
        const { assert!(!needs_drop::<T>(), "the value is wiped, not dropped") };
        Wiped(Box::new(value))
    }
}

impl<T> Deref for Wiped<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Drop for Wiped<T> {
    fn drop(&mut self) {
        let value: *mut T = &raw mut *self.0;
        // SAFETY: `value` is a valid, exclusive allocation of that many bytes, and zero is a valid byte of
        // MaybeUninit. The value is never used again: it needs no drop (`new`), and Box only frees the memory.
        unsafe { std::slice::from_raw_parts_mut(value.cast::<std::mem::MaybeUninit<u8>>(), size_of::<T>()) }
            .zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flags of the mapping that holds `address`, as /proc/self/smaps tells them.
    fn flags_of(address: usize) -> Vec<String> {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        for line in maps.lines() {
            if let Some((range, _)) = line.split_once(' ')
                && let Some((start, end)) = range.split_once('-')
                && let (Ok(start), Ok(end)) =
                    (usize::from_str_radix(start, 16), usize::from_str_radix(end, 16))
            {
                inside = (start..end).contains(&address);
            } else if inside && let Some(flags) = line.strip_prefix("VmFlags:") {
                return flags.split_whitespace().map(str::to_owned).collect();
            }
        }
        panic!("no mapping at {address:#x}");
    }

    #[test]
    fn locked_memory_is_locked_not_dumped_and_not_inherited() {
        let mut locked = Locked::<32>::new().unwrap();
        locked.bytes_mut().fill(7);
        assert_eq!(locked.bytes(), &[7; 32]);
        let flags = flags_of(locked.page.as_ptr() as usize);
        for flag in ["lo", "dd", "wf"] {
            assert!(flags.iter().any(|other| other == flag), "{flag} is not among {flags:?}");
        }
    }

    #[test]
    fn a_wiped_value_is_used_like_any_other() {
        let wiped = Wiped::new([1u8, 2, 3]);
        assert_eq!(wiped.iter().sum::<u8>(), 6);
    }
}
