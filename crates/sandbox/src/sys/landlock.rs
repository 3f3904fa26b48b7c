//! Asks the kernel which version of Landlock it has.

use std::ptr;

/// The Landlock ABI of this kernel; nothing when it has none or it is switched off.
pub(crate) fn landlock_abi() -> Option<u32> {
    const CREATE_RULESET_VERSION: libc::c_ulong = 1;
    // SAFETY: with a null attribute, size 0 and this flag the kernel reads no memory and only answers a number.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<libc::c_void>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(abi).ok().filter(|abi| *abi > 0)
}
