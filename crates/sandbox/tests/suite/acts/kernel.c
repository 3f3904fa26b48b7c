/* Calls and files by which the kernel and the machine are run or broken. */
#include "acts.h"

#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>

/* Mounts. */
CALL_ACT(mount_tmpfs, SYS_mount, "none", "/tmp", "tmpfs", 0, 0)
CALL_ACT(mount_proc, SYS_mount, "none", "/tmp", "proc", 0, 0)
CALL_ACT(mount_remount_root, SYS_mount, "none", "/", NULL, MS_REMOUNT | MS_BIND, 0)
CALL_ACT(mount_remount_work_exec, SYS_mount, "none", "/work", NULL, MS_REMOUNT | MS_BIND, 0)
CALL_ACT(mount_bind, SYS_mount, "/proc", "/tmp", NULL, MS_BIND, 0)
CALL_ACT(mount_move, SYS_mount, "/proc", "/tmp", NULL, MS_MOVE, 0)
CALL_ACT(mount_shared, SYS_mount, "none", "/", NULL, MS_SHARED | MS_REC, 0)
CALL_ACT(mount_fuse, SYS_mount, "none", "/tmp", "fuse", 0, "fd=0,rootmode=40000,user_id=0,group_id=0")
CALL_ACT(mount_cgroup, SYS_mount, "none", "/tmp", "cgroup", 0, "memory")
CALL_ACT(mount_cgroup2, SYS_mount, "none", "/tmp", "cgroup2", 0, 0)
CALL_ACT(mount_overlay, SYS_mount, "none", "/tmp", "overlay", 0, "lowerdir=/usr,upperdir=/work,workdir=/tmp")
CALL_ACT(unmount_mask, SYS_umount2, "/proc/kcore", MNT_DETACH)
CALL_ACT(unmount_proc, SYS_umount2, "/proc", MNT_DETACH)
CALL_ACT(unmount_root, SYS_umount2, "/", MNT_DETACH)
CALL_ACT(pivot_root, SYS_pivot_root, ".", ".")
CALL_ACT(change_root, SYS_chroot, "/tmp")
CALL_ACT(open_file_system, SYS_fsopen, "tmpfs", 0)
CALL_ACT(pick_file_system, SYS_fspick, AT_FDCWD, "/", 0)
CALL_ACT(open_tree_clone, SYS_open_tree, AT_FDCWD, "/", 1)
CALL_ACT(open_tree_attr, 467, AT_FDCWD, "/", 1, 0, 0)
CALL_ACT(move_mount, SYS_move_mount, AT_FDCWD, "/proc", AT_FDCWD, "/tmp", 0)
CALL_ACT(set_mount_attributes, SYS_mount_setattr, AT_FDCWD, "/work", 0, (unsigned long[4]){0, 8}, 32)
CALL_ACT(list_mounts, 458, (unsigned long[4]){32, 0, ~0UL, 0}, (unsigned long[16]){0}, 16, 0)
ACT(list_own_mount_file) { return try_open("/proc/self/mounts", O_RDONLY); }

/* Large and dangerous parts of the kernel. */
CALL_ACT(bpf, SYS_bpf, 0, (char[128]){0}, 128)
CALL_ACT(bpf_load, SYS_bpf, 5, (char[128]){0}, 128)
CALL_ACT(watch_performance, SYS_perf_event_open, (char[128]){0}, 0, -1, -1, 0)
CALL_ACT(handle_faults, SYS_userfaultfd, 0)
CALL_ACT(handle_own_faults, SYS_userfaultfd, 1 /* UFFD_USER_MODE_ONLY */)
CALL_ACT(keys_session, SYS_keyctl, 1, "hostile")
CALL_ACT(keys_read, SYS_keyctl, 0, -3, 0)
CALL_ACT(keys_add, SYS_add_key, "user", "hostile", "b", 1, -4)
CALL_ACT(keys_request, SYS_request_key, "user", "hostile", "b", -4)
CALL_ACT(ring_setup, SYS_io_uring_setup, 8, (char[128]){0})
CALL_ACT(ring_enter, SYS_io_uring_enter, 0, 0, 0, 0, 0, 0)
CALL_ACT(ring_register, SYS_io_uring_register, -1, 0, 0, 0)
CALL_ACT(load_kernel, SYS_kexec_load, 0, 0, 0, 0)
CALL_ACT(load_kernel_file, SYS_kexec_file_load, 0, 0, 0, 0, 0)
CALL_ACT(load_module, SYS_init_module, "", 0, "")
CALL_ACT(load_module_file, SYS_finit_module, 0, "", 0)
CALL_ACT(unload_module, SYS_delete_module, "tcp", 0)
CALL_ACT(port_level, SYS_iopl, 3)
CALL_ACT(port_permission, SYS_ioperm, 0x60, 4, 1)
CALL_ACT(account, SYS_acct, "/work/acct")
CALL_ACT(swap_on, SYS_swapon, "/work/swap", 0)
CALL_ACT(swap_off, SYS_swapoff, "/swapfile")
CALL_ACT(reboot, SYS_reboot, 0xfee1dead, 672274793, 0x89abcdef, 0) /* RB_ENABLE_CAD with wrong magic is refused */
CALL_ACT(read_kernel_log, SYS_syslog, 3, (char[64]){0}, 64)
CALL_ACT(hang_up_terminals, SYS_vhangup)
CALL_ACT(set_quota, SYS_quotactl, 0, 0, 0, 0)
CALL_ACT(host_name, SYS_sethostname, "hostile", 7)
CALL_ACT(domain_name, SYS_setdomainname, "hostile", 7)
CALL_ACT(file_handle, SYS_name_to_handle_at, AT_FDCWD, "/", (int[64]){128}, (int[1]){0}, 0)
CALL_ACT(open_file_handle, SYS_open_by_handle_at, AT_FDCWD, (int[64]){8, 1, 2}, O_RDONLY)
CALL_ACT(watch_all_files, SYS_fanotify_init, 0, O_RDONLY)
CALL_ACT(watch_own_files, SYS_fanotify_init, 0x200 /* FAN_REPORT_FID */, O_RDONLY)
CALL_ACT(move_own_pages, SYS_move_pages, 0, 0, 0, 0, 0, 0)
CALL_ACT(migrate_own_pages, SYS_migrate_pages, 0, 1, (long[1]){1}, (long[1]){1})
CALL_ACT(secret_memory, 447, 0)
CALL_ACT(local_descriptors, SYS_modify_ldt, 1, (char[64]){0}, 16)
CALL_ACT(obsolete_library, SYS_uselib, "/usr/bin/act")
CALL_ACT(obsolete_sysctl, SYS__sysctl, 0)
CALL_ACT(look_up_cookie, SYS_lookup_dcookie, 0, (char[64]){0}, 64)
CALL_ACT(set_security_attribute, 460, 100, (char[64]){0}, 64, 0)
CALL_ACT(no_such_call, 900)
CALL_ACT(no_such_call_far, 0x3fffffff)
CALL_ACT(no_such_call_negative, -1)
CALL_ACT(x32_call, 0x40000000 + 39)
CALL_ACT(x32_exec, 0x40000000 + 520, "/usr/bin/act", 0, 0)
CALL_ACT(ordinary_call, SYS_getpid)
ACT(foreign_call) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory");
    return POSSIBLE;
}
/* A filter of its own on top; to wait for its own notifications would let it answer for the sandbox's broker. */
ACT(listen_to_own_filter) {
    struct sock_filter { unsigned short code; unsigned char jt, jf; unsigned k; } one = {6, 0, 0, 0x7fff0000};
    struct { unsigned short length; struct sock_filter *code; } program = {1, &one};
    return result_of(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program));
}

/* Clocks. */
ACT(set_time) {
    struct timeval now = {1, 0};
    return result_of(syscall(SYS_settimeofday, &now, NULL));
}
ACT(set_clock) {
    struct timespec now = {1, 0};
    return result_of(syscall(SYS_clock_settime, CLOCK_REALTIME, &now));
}
ACT(adjust_clock) {
    struct timex change = {.modes = ADJ_FREQUENCY, .freq = 0};
    return result_of(syscall(SYS_adjtimex, &change));
}
ACT(adjust_other_clock) {
    struct timex change = {.modes = ADJ_FREQUENCY, .freq = 0};
    return result_of(syscall(SYS_clock_adjtime, CLOCK_REALTIME, &change));
}
ACT(wake_machine) {
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_NONE};
    return result_of(syscall(SYS_timer_create, 9 /* CLOCK_BOOTTIME_ALARM */, &event, &timer));
}
ACT(read_clock) {
    struct timespec now;
    return result_of(syscall(SYS_clock_gettime, CLOCK_REALTIME, &now));
}

/* Personality. */
CALL_ACT(fixed_addresses, SYS_personality, ADDR_NO_RANDOMIZE)
CALL_ACT(map_page_zero, SYS_personality, MMAP_PAGE_ZERO)
CALL_ACT(readable_is_executable, SYS_personality, READ_IMPLIES_EXEC)
CALL_ACT(old_memory_layout, SYS_personality, ADDR_COMPAT_LAYOUT)
CALL_ACT(ask_personality, SYS_personality, 0xffffffff)
ACT(map_null) {
    void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    return at == MAP_FAILED ? errno : POSSIBLE;
}

/* Settings in files. */
static int write_setting(const char *path, const char *text) {
    int fd = open(path, O_WRONLY);
    return fd < 0 ? errno : result_of(write(fd, text, strlen(text)));
}
ACT(set_core_pattern) { return write_setting("/proc/sys/kernel/core_pattern", "|/work/evil"); }
ACT(set_module_loader) { return write_setting("/proc/sys/kernel/modprobe", "/work/evil"); }
ACT(set_host_name_file) { return write_setting("/proc/sys/kernel/hostname", "evil"); }
ACT(set_randomization) { return write_setting("/proc/sys/kernel/randomize_va_space", "0"); }
ACT(set_overcommit) { return write_setting("/proc/sys/vm/overcommit_memory", "1"); }
ACT(drop_caches) { return write_setting("/proc/sys/vm/drop_caches", "3"); }
ACT(set_forwarding) { return write_setting("/proc/sys/net/ipv4/ip_forward", "1"); }
ACT(set_queue_limit) { return write_setting("/proc/sys/fs/mqueue/queues_max", "100000"); }
ACT(set_shared_memory_limit) { return write_setting("/proc/sys/kernel/shmmax", "1"); }
ACT(register_format) { return write_setting("/proc/sys/fs/binfmt_misc/register", ":x:M::x::/work/evil:"); }
ACT(pull_sysrq) { return write_setting("/proc/sysrq-trigger", "h"); }
ACT(move_interrupts) { return write_setting("/proc/irq/default_smp_affinity", "1"); }
ACT(set_io_memory) { return write_setting("/proc/mtrr", "disable=0"); }
ACT(set_profile) { return write_setting("/proc/self/attr/current", "unconfined"); }
ACT(set_exec_profile) { return write_setting("/proc/self/attr/exec", "unconfined"); }
ACT(set_login_user) { return write_setting("/proc/self/loginuid", "0"); }
ACT(set_uevent_helper) { return write_setting("/sys/kernel/uevent_helper", "/work/evil"); }
ACT(set_release_agent) { return write_setting("/sys/fs/cgroup/memory/release_agent", "/work/evil"); }
ACT(leave_group) { return write_setting("/sys/fs/cgroup/cgroup.procs", "0"); }
ACT(leave_memory_group) { return write_setting("/sys/fs/cgroup/memory/cgroup.procs", "0"); }
ACT(take_cpu_offline) { return write_setting("/sys/devices/system/cpu/cpu1/online", "0"); }
ACT(set_cpu_frequency) { return write_setting("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance"); }
ACT(load_debug_trace) { return try_open("/sys/kernel/debug/tracing/trace", O_RDONLY); }
ACT(read_setting) { return try_open("/proc/sys/kernel/pid_max", O_RDONLY); }

/* What the machine does, and where. A masked file reads as empty. */
static int read_file(const char *path) {
    char byte;
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    if (fd < 0) return errno;
    ssize_t length = read(fd, &byte, 1);
    return length < 0 ? errno : length == 0 ? ENODATA : POSSIBLE;
}
ACT(read_kernel_memory) { return read_file("/proc/kcore"); }
ACT(read_kernel_symbols) { return read_file("/proc/kallsyms"); }
ACT(read_kernel_messages) { return read_file("/proc/kmsg"); }
ACT(read_keys) { return read_file("/proc/keys"); }
ACT(read_key_users) { return read_file("/proc/key-users"); }
ACT(read_interrupts) { return read_file("/proc/interrupts"); }
ACT(read_soft_interrupts) { return read_file("/proc/softirqs"); }
ACT(read_timers) { return read_file("/proc/timer_list"); }
ACT(read_scheduler) { return read_file("/proc/sched_debug"); }
ACT(read_slabs) { return read_file("/proc/slabinfo"); }
ACT(read_pressure) { return read_file("/proc/pressure/cpu"); }
ACT(read_page_flags) { return read_file("/proc/kpageflags"); }
ACT(read_page_counts) { return read_file("/proc/kpagecount"); }
ACT(read_modules_addresses) {
    char line[256];
    FILE *file = fopen("/proc/modules", "r");
    if (!file) return errno;
    /* The address comes last but for the state; without rights it is all zeros. */
    while (fgets(line, sizeof line, file))
        if (!strstr(line, "0x0000000000000000")) return POSSIBLE;
    return ENODATA;
}
ACT(read_physical_addresses) {
    /* A page frame number is shown to those with rights only. */
    unsigned long entry, page = (unsigned long)&entry / 4096;
    int fd = open("/proc/self/pagemap", O_RDONLY);
    if (fd < 0 || pread(fd, &entry, sizeof entry, page * sizeof entry) < 0) return errno;
    return entry & ((1UL << 55) - 1) ? POSSIBLE : EPERM;
}
ACT(read_processors) { return read_file("/proc/cpuinfo"); }
