//! Makes the loader's own addresses right for the place where the kernel has put it: nobody else does it for an
//! interpreter.

const DT_NULL: usize = 0;
const DT_RELA: usize = 7;
const DT_RELASZ: usize = 8;

/// One entry of the table of relocations. Linked to nothing, we have only those that add our own place.
#[repr(C)]
struct Relocation {
    at: usize,
    _kind: usize,
    addend: usize,
}

/// Until this is done no function may be called whose address the compiler looks up, such as those of `memory`.
///
/// # Safety
/// `base` is where this program lies and `dynamic` its dynamic section.
pub unsafe extern "C" fn relocate(base: usize, dynamic: *const [usize; 2]) {
    let (mut table, mut size, mut entry) = (0, 0, dynamic);
    // SAFETY: the section is a row of pairs up to one that begins with DT_NULL; it names the table, whose entries
    // name words of our own data.
    unsafe {
        while (*entry)[0] != DT_NULL {
            match (*entry)[0] {
                DT_RELA => table = (*entry)[1],
                DT_RELASZ => size = (*entry)[1],
                _ => {}
            }
            entry = entry.add(1);
        }
        let mut next = base.wrapping_add(table) as *const Relocation;
        let end = base.wrapping_add(table).wrapping_add(size) as *const Relocation;
        while next < end {
            *(base.wrapping_add((*next).at) as *mut usize) = base.wrapping_add((*next).addend);
            next = next.add(1);
        }
    }
}
