//! Memory, and what of it may be executed.

use crate::filter::rule::Errno::{EACCES, EINVAL, ENOMEM, EPERM};
use crate::filter::rule::{Rule, Test, Within, calls, values};

const HUGE_PAGES: &str = "the machine's huge pages are for whom its owner set them aside, and no memory limit \
                          counts them; programs take ordinary pages";

pub(super) const RULES: &[Rule] = &[
    Rule::refuse(calls![SYS_mmap], ENOMEM, HUGE_PAGES).when(&[Test::any_bit(3, "flags", values![MAP_HUGETLB])]),
    Rule::refuse(calls![SYS_mmap], EACCES, "code comes from executable files: nothing is both written and run")
        .when(&[Test::all_bits(2, "prot", values![PROT_WRITE PROT_EXEC])])
        .within(Within::FixedCode),
    Rule::refuse(calls![SYS_mmap], EACCES, "memory that belongs to no file holds no code of the application")
        .when(&[
            Test::any_bit(2, "prot", values![PROT_EXEC]),
            Test::any_bit(3, "flags", values![MAP_ANONYMOUS]),
        ])
        .within(Within::FixedCode),
    Rule::allow(calls![SYS_mmap], "memory, and files as memory"),
    Rule::refuse(
        calls![SYS_mprotect SYS_pkey_mprotect],
        EACCES,
        "what was mapped without being executable may have been written; the answer of SELinux and of \
         PR_SET_MDWE, which programs know",
    )
    .when(&[Test::any_bit(2, "prot", values![PROT_EXEC])])
    .within(Within::FixedCode),
    Rule::allow(calls![SYS_mprotect SYS_pkey_mprotect SYS_pkey_alloc SYS_pkey_free SYS_mseal], "protecting memory"),
    Rule::allow(
        calls![SYS_munmap SYS_mremap SYS_brk SYS_msync SYS_mincore],
        "giving memory back, moving it and looking at it",
    ),
    Rule::refuse(
        calls![SYS_madvise],
        EINVAL,
        "merging equal pages works for the whole machine and tells what others have in memory; the answer of a \
         kernel that can't",
    )
    .when(&[Test::one_of(2, "advice", values![MADV_MERGEABLE])]),
    Rule::allow(calls![SYS_madvise], "how memory will be used"),
    Rule::allow(
        calls![SYS_mlock SYS_mlock2 SYS_mlockall SYS_munlock SYS_munlockall],
        "secrets out of the swap; RLIMIT_MEMLOCK says how much",
    ),
    Rule::refuse(calls![SYS_shmget], EPERM, HUGE_PAGES).when(&[Test::any_bit(2, "flags", values![SHM_HUGETLB])]),
    Rule::refuse(calls![SYS_shmat], EACCES, "shared memory belongs to no file and holds no code")
        .when(&[Test::any_bit(2, "flags", values![SHM_EXEC])]),
    Rule::allow(
        calls![SYS_shmget SYS_shmat SYS_shmdt SYS_shmctl],
        "memory shared between the processes of a parallel program, in the subjob's own namespace",
    ),
    Rule::allow(
        calls![SYS_get_mempolicy SYS_set_mempolicy SYS_mbind],
        "on which memory node a process wants its own pages",
    ),
    Rule::refuse(
        calls![SYS_migrate_pages SYS_move_pages],
        EPERM,
        "moving memory between nodes slows the desktop and needs no capability on its own processes",
    ),
    Rule::allow(calls![SYS_membarrier], "run-time systems order memory between their threads"),
    Rule::refuse(calls![SYS_userfaultfd], EPERM, "holds the kernel up at a moment of a program's choosing"),
];
