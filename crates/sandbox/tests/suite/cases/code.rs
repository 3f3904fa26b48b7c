//! Ways to run code that nobody registered.

use libc::{EACCES, EINVAL, EIO, ENOENT, ENOEXEC, ENOSYS, EPERM, EROFS};

use super::{Attempt, Expect, attempt};

const NOEXEC: &str = "everything writable is mounted noexec";
const REGISTERED: &str = "only registered files lie on mounts that may be executed";
const WRITE_XOR_EXECUTE: &str =
    "memory is never writable and executable: PR_SET_MDWE and the system call filter";
const NO_MEMORY_FILES: &str = "system call filter: no files without a name that could be executed";
const NO_TRACING: &str = "system call filter: no tracing, no writing into processes";

pub(super) const ATTEMPTS: &[Attempt] = &[
    attempt(
        18,
        "execute a file that it wrote, by each way of naming it",
        NOEXEC,
        &[
            "exec_written_in_work",
            "exec_written_in_tmp",
            "exec_written_in_home",
            "exec_written_in_shm",
            "exec_renamed",
            "exec_by_link",
            "exec_temporary_file",
            "exec_by_proc_fd",
            "exec_by_descriptor",
            "exec_relative_to_descriptor",
            "exec_in_vforked_child",
        ],
        Expect::Refused(&[EACCES, ENOSYS, EPERM]),
        "exec_registered",
    ),
    attempt(
        19,
        "execute programs of the desktop that nobody registered",
        "they do not exist in its root",
        &["exec_python", "exec_shell"],
        Expect::Absent(&[ENOENT]),
        "exec_registered",
    ),
    attempt(
        28,
        "execute a script that it wrote or a data file",
        NOEXEC,
        &["exec_script", "exec_data"],
        Expect::Refused(&[EACCES, ENOEXEC]),
        "exec_registered",
    ),
    attempt(
        25,
        "map a file that it wrote as code",
        NOEXEC,
        &[
            "run_work_file",
            "run_tmp_file",
            "run_shm_file",
            "run_unnamed_file",
            "run_private_file",
            "run_file_made_executable",
            "run_zero_device",
        ],
        Expect::Refused(&[EACCES, EPERM]),
        "map_program_readable",
    ),
    attempt(
        29,
        "gain rights by a set-user-id or set-group-id program",
        "no_new_privs and nosuid mounts",
        &["be_privileged_by_setuid", "be_privileged_by_setgid"],
        Expect::Refused(&[EPERM, EACCES]),
        "exec_registered",
    ),
    attempt(
        26,
        "write its own or a child's code around the protection of pages",
        NO_TRACING,
        &["write_text_by_call", "write_child_by_trace", "be_traced"],
        Expect::Refused(&[EPERM]),
        "signal_own_child",
    ),
    attempt(
        29,
        "make a set-user-id file on the desktop's disk",
        "system call filter: no such modes; nosuid mounts",
        &["make_setuid_file"],
        Expect::Refused(&[EPERM]),
        "write_work_file",
    ),
    attempt(
        52,
        "put another file in the place of its program",
        "no capabilities",
        &["replace_program_file"],
        Expect::Refused(&[EPERM, EINVAL, EACCES]),
        "exec_registered",
    ),
    attempt(
        25,
        "make all readable memory executable",
        "system call filter: personality",
        &["readable_implies_executable"],
        Expect::Refused(&[EPERM]),
        "ask_personality",
    ),
    attempt(
        24,
        "execute or map a file that exists in memory only",
        NO_MEMORY_FILES,
        &["exec_memory_file", "exec_memory_file_by_proc", "exec_sealed_memory_file", "run_memory_file"],
        Expect::Refused(&[EPERM, EACCES, ENOSYS]),
        "write_scratch_file",
    ),
    attempt(
        24,
        "map shared memory as code",
        "system call filter: SHM_EXEC and mprotect",
        &["run_shared_segment", "run_shared_segment_made_executable"],
        Expect::Refused(&[EPERM, EACCES]),
        "change_memory_protection",
    ),
    attempt(
        25,
        "write memory and then execute it",
        WRITE_XOR_EXECUTE,
        &[
            "run_writable_memory",
            "run_memory_made_executable",
            "run_shared_memory_made_executable",
            "write_executable_memory_later",
            "write_own_text",
            "copy_text_and_change_it",
            "text_made_writable_and_back",
            "run_heap",
            "run_stack",
            "run_memory_with_key",
            "run_memory_in_child",
            "lift_write_xor_execute",
        ],
        Expect::Refused(&[EPERM, EACCES]),
        "change_memory_protection",
    ),
    attempt(
        18,
        "execute or map a file that it wrote beside the application's",
        NOEXEC,
        &["exec_written_in_system", "run_system_file", "exec_written_in_own", "run_own_file"],
        Expect::Refused(&[EACCES, EPERM, EROFS]),
        "exec_registered",
    ),
    attempt(
        19,
        "execute a file of its tree that nobody registered",
        REGISTERED,
        &["exec_unregistered", "exec_unregistered_of_own"],
        Expect::Refused(&[EACCES]),
        "exec_registered",
    ),
    attempt(
        26,
        "write code by /proc",
        "Landlock: no writing below /proc",
        &["write_text_by_proc", "write_text_by_thread", "write_child_by_proc"],
        Expect::Refused(&[EACCES, EPERM, EIO]),
        "read_own_memory_by_proc",
    ),
];
