/* Other processes, the sandbox's own, rights, priorities and terminals. */
#include "acts.h"

#include <dirent.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/fsuid.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <termios.h>

/* Namespaces. */
CALL_ACT(unshare_user, SYS_unshare, CLONE_NEWUSER)
CALL_ACT(unshare_mounts, SYS_unshare, CLONE_NEWNS)
CALL_ACT(unshare_pids, SYS_unshare, CLONE_NEWPID)
CALL_ACT(unshare_network, SYS_unshare, CLONE_NEWNET)
CALL_ACT(unshare_ipc, SYS_unshare, CLONE_NEWIPC)
CALL_ACT(unshare_names, SYS_unshare, CLONE_NEWUTS)
CALL_ACT(unshare_groups, SYS_unshare, CLONE_NEWCGROUP)
CALL_ACT(unshare_time, SYS_unshare, 0x80)
CALL_ACT(unshare_user_and_mounts, SYS_unshare, CLONE_NEWUSER | CLONE_NEWNS)
CALL_ACT(clone_user, SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0)
CALL_ACT(clone_mounts, SYS_clone, CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0)
CALL_ACT(clone_network, SYS_clone, CLONE_NEWNET | SIGCHLD, 0, 0, 0, 0)
CALL_ACT(clone_pids, SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0)
ACT(clone3_user) {
    struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
    long pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) _exit(0);
    return result_of(pid);
}
ACT(clone3_into_group) {
    struct clone_args args = {.flags = 0x200000000ULL, .exit_signal = SIGCHLD, .cgroup = 0};
    long pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) _exit(0);
    return result_of(pid);
}
static int enter(const char *path) {
    int fd = open(path, O_RDONLY);
    if (fd < 0) return errno;
    return result_of(syscall(SYS_setns, fd, 0));
}
ACT(enter_portal_mounts) { return enter("/proc/1/ns/mnt"); }
ACT(enter_portal_user) { return enter("/proc/1/ns/user"); }
ACT(enter_own_mounts) { return enter("/proc/self/ns/mnt"); }
ACT(enter_own_user) { return enter("/proc/self/ns/user"); }
ACT(enter_portal_by_pidfd) {
    int fd = syscall(SYS_pidfd_open, 1, 0);
    return fd < 0 ? errno : result_of(syscall(SYS_setns, fd, CLONE_NEWNS));
}
ACT(parent_namespace) {
    int fd = open("/proc/self/ns/user", O_RDONLY);
    return fd < 0 ? errno : result_of(ioctl(fd, 0xb702 /* NS_GET_PARENT */));
}
ACT(map_ids_again) {
    int fd = open("/proc/self/uid_map", O_WRONLY);
    return fd < 0 ? errno : result_of(write(fd, "0 0 1\n", 6));
}
ACT(allow_setgroups) {
    int fd = open("/proc/self/setgroups", O_WRONLY);
    return fd < 0 ? errno : result_of(write(fd, "allow", 5));
}
ACT(start_child) {
    pid_t pid = fork();
    if (pid == 0) _exit(0);
    return result_of(waitpid(pid, NULL, 0));
}

/* Processes that are not its own. */
CALL_ACT(kill_portal, SYS_kill, 1, SIGKILL)
CALL_ACT(stop_portal, SYS_kill, 1, SIGSTOP)
CALL_ACT(terminate_portal, SYS_kill, 1, SIGTERM)
CALL_ACT(crash_portal, SYS_kill, 1, SIGSEGV)
CALL_ACT(kill_portal_thread, SYS_tgkill, 1, 1, SIGKILL)
ACT(queue_to_portal) {
    siginfo_t info = {.si_signo = SIGKILL, .si_code = SI_QUEUE};
    return result_of(syscall(SYS_rt_sigqueueinfo, 1, SIGKILL, &info));
}
ACT(kill_portal_by_pidfd) {
    int fd = syscall(SYS_pidfd_open, 1, 0);
    return fd < 0 ? errno : result_of(syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
}
ACT(signal_portal_by_file) {
    int ends[2];
    if (pipe(ends)) return errno;
    if (fcntl(ends[0], F_SETSIG, SIGKILL) || fcntl(ends[0], F_SETOWN, 1)) return errno;
    fcntl(ends[0], F_SETFL, O_ASYNC);
    return result_of(write(ends[1], "x", 1));
}
ACT(kill_host_process) { return result_of(kill(atoi(from_host("HOST_PID")), SIGKILL)); }
ACT(find_host_process) { return result_of(kill(atoi(from_host("HOST_PID")), 0)); }
ACT(trace_portal) { return result_of(ptrace(PTRACE_ATTACH, 1, NULL, NULL)); }
ACT(seize_portal) { return result_of(ptrace(PTRACE_SEIZE, 1, NULL, NULL)); }
ACT(read_portal_memory_by_call) {
    char byte;
    struct iovec to = {&byte, 1}, from = {(void *)0x400000, 1};
    return result_of(syscall(SYS_process_vm_readv, 1, &to, 1, &from, 1, 0));
}
ACT(steal_portal_file) {
    int fd = syscall(SYS_pidfd_open, 1, 0);
    return fd < 0 ? errno : result_of(syscall(SYS_pidfd_getfd, fd, 0, 0));
}
CALL_ACT(compare_with_portal, SYS_kcmp, 1, getpid(), 0, 0, 0)
ACT(reap_portal_memory) {
    int fd = syscall(SYS_pidfd_open, 1, 0);
    return fd < 0 ? errno : result_of(syscall(448 /* process_mrelease */, fd, 0));
}
ACT(advise_portal_memory) {
    int fd = syscall(SYS_pidfd_open, 1, 0);
    struct iovec range = {(void *)0x400000, 4096};
    return fd < 0 ? errno : result_of(syscall(SYS_process_madvise, fd, &range, 1, MADV_COLD, 0));
}
ACT(limit_portal) {
    struct rlimit none = {0, 0};
    return result_of(prlimit(1, RLIMIT_NOFILE, &none, NULL));
}
ACT(read_limits_of_portal) {
    struct rlimit found;
    return result_of(prlimit(1, RLIMIT_NOFILE, NULL, &found));
}
/* What counts is how the VM Portal is afterwards. */
ACT(pin_portal) {
    cpu_set_t before, wanted, after;
    CPU_ZERO(&wanted);
    CPU_SET(0, &wanted);
    if (sched_getaffinity(1, sizeof before, &before)) return errno;
    if (sched_setaffinity(1, sizeof wanted, &wanted)) return errno;
    return sched_getaffinity(1, sizeof after, &after) == 0 && !CPU_EQUAL(&before, &after) ? POSSIBLE : EPERM;
}
ACT(starve_portal) {
    if (sched_setscheduler(1, SCHED_IDLE, &(struct sched_param){0})) return errno;
    return sched_getscheduler(1) == SCHED_IDLE ? POSSIBLE : EPERM;
}
ACT(renice_portal) {
    if (setpriority(PRIO_PROCESS, 1, 19)) return errno;
    return getpriority(PRIO_PROCESS, 1) == 19 ? POSSIBLE : EPERM;
}
ACT(list_portal_futexes) {
    void *head;
    size_t length;
    return result_of(syscall(SYS_get_robust_list, 1, &head, &length));
}
ACT(read_portal_memory) { return try_open("/proc/1/mem", O_RDONLY); }
ACT(read_portal_environment) { return try_open("/proc/1/environ", O_RDONLY); }
ACT(read_portal_command_line) { return try_open("/proc/1/cmdline", O_RDONLY); }
ACT(read_portal_maps) { return try_open("/proc/1/maps", O_RDONLY); }
ACT(list_portal_files) { return try_open("/proc/1/fd", O_RDONLY | O_DIRECTORY); }
ACT(read_portal_stack) { return try_open("/proc/1/stack", O_RDONLY); }
ACT(read_portal_calls) { return try_open("/proc/1/syscall", O_RDONLY); }
ACT(see_portal) { return result_of(access("/proc/1", F_OK)); }
ACT(read_host_command_line) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/cmdline", from_host("HOST_PID"));
    return try_open(path, O_RDONLY);
}
ACT(read_own_command_line) { return try_open("/proc/self/cmdline", O_RDONLY); }
/* Processes in /proc that are neither this nor its parent. */
ACT(see_strangers) {
    DIR *dir = opendir("/proc");
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        int pid = atoi(entry->d_name);
        if (pid > 0 && pid != getpid() && pid != getppid()) return POSSIBLE;
    }
    return ENOENT;
}
ACT(signal_own_child) {
    pid_t pid = fork();
    if (pid == 0) for (;;) pause();
    return result_of(kill(pid, SIGKILL));
}
/* A sibling of the caller, as a child of its parent: must not be taken for the program itself. */
ACT(be_child_of_portal) {
    long pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) _exit(77);
    return result_of(pid);
}
/* The same by the program itself, whose parent is the VM Portal: run alone. */
ACT(leave_sibling) {
    int result = act_be_child_of_portal();
    usleep(100000);
    return result;
}
ACT(kill_everything) {
    kill(-1, SIGKILL);
    kill(1, SIGKILL);
    kill(1, SIGSTOP);
    for (int number = 1; number < 65; number++) kill(1, number);
    return 0;
}

/* What it inherited. */
ACT(inherited_files) {
    for (int fd = 3; fd < 4096; fd++)
        if (fcntl(fd, F_GETFD) >= 0) return POSSIBLE;
    return EBADF;
}
ACT(inherited_directory) {
    for (int fd = 0; fd < 4096; fd++) {
        struct stat found;
        if (fstat(fd, &found) == 0 && S_ISDIR(found.st_mode)) return POSSIBLE;
    }
    return EBADF;
}
ACT(inherited_socket) {
    for (int fd = 0; fd < 4096; fd++) {
        struct stat found;
        if (fstat(fd, &found) == 0 && S_ISSOCK(found.st_mode)) return POSSIBLE;
    }
    return EBADF;
}
ACT(standard_files) {
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0) return errno;
    return 0;
}
ACT(inherited_signals) {
    for (int number = 1; number < 32; number++) {
        struct sigaction found;
        if (sigaction(number, NULL, &found) == 0 && found.sa_handler == SIG_IGN) return POSSIBLE;
    }
    return ENOENT;
}

/* Rights. */
ACT(become_root) { return result_of(setuid(0)); }
ACT(become_root_in_all) { return result_of(setresuid(0, 0, 0)); }
ACT(become_root_group) { return result_of(setgid(0)); }
ACT(become_other_user) { return result_of(setuid(65534)); }
CALL_ACT(take_groups, SYS_setgroups, 1, &(gid_t){0})
ACT(become_root_for_files) {
    setfsuid(0);
    return setfsuid(-1) == 0 ? POSSIBLE : EPERM;
}
ACT(take_capabilities) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct all[2] = {{~0u, ~0u, ~0u}, {~0u, ~0u, ~0u}};
    return result_of(syscall(SYS_capset, &header, all));
}
ACT(raise_ambient_capability) { return result_of(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0)); }
ACT(allow_new_privileges) { return result_of(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0)); }
ACT(set_secure_bits) { return result_of(prctl(PR_SET_SECUREBITS, 0, 0, 0, 0)); }
ACT(drop_from_bounding_set) { return result_of(prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0)); }
ACT(have_no_capability) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct found[2] = {0};
    if (syscall(SYS_capget, &header, found)) return errno;
    for (int i = 0; i < 2; i++)
        if (found[i].effective | found[i].permitted | found[i].inheritable) return EINVAL;
    for (int bit = 0; bit < 64; bit++)
        if (prctl(PR_CAPBSET_READ, bit, 0, 0, 0) == 1) return EINVAL;
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : EINVAL;
}
ACT(lift_filter) { return result_of(prctl(PR_SET_SECCOMP, 0, 0, 0, 0)); }
ACT(read_own_user) { return getuid() == 1000 && getgid() == 1000 ? 0 : EINVAL; }

/* Priority. */
/* What counts is the priority that it has afterwards. */
static int raise_own(int whose) {
    if (setpriority(whose, 0, 0)) return errno;
    return getpriority(PRIO_PROCESS, 0) < 19 ? POSSIBLE : EPERM;
}
ACT(raise_priority) { return raise_own(PRIO_PROCESS); }
ACT(raise_priority_of_user) { return raise_own(PRIO_USER); }
/* Into another class: what counts is the class that it is in afterwards. */
static int enter_class(int class) {
    if (sched_setscheduler(0, class, &(struct sched_param){0})) return errno;
    return sched_getscheduler(0) == class ? POSSIBLE : EPERM;
}
ACT(leave_idle_class) { return enter_class(SCHED_OTHER); }
ACT(enter_batch_class) { return enter_class(SCHED_BATCH); }
ACT(enter_realtime_class) { return result_of(sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){1})); }
ACT(enter_round_robin_class) { return result_of(sched_setscheduler(0, SCHED_RR, &(struct sched_param){1})); }
ACT(enter_deadline_class) {
    struct {
        unsigned size, policy;
        unsigned long flags;
        int nice;
        unsigned priority;
        unsigned long runtime, deadline, period;
    } wanted = {48, 6, 0, 0, 0, 10000000, 30000000, 30000000};
    return result_of(syscall(SYS_sched_setattr, 0, &wanted, 0));
}
CALL_ACT(raise_disk_priority, SYS_ioprio_set, 1, 0, (2 << 13) | 4)
CALL_ACT(take_realtime_disk_priority, SYS_ioprio_set, 1, 0, (1 << 13) | 0)
ACT(avoid_memory_killer) {
    int fd = open("/proc/self/oom_score_adj", O_WRONLY);
    return fd < 0 ? errno : result_of(write(fd, "-1000", 5));
}
ACT(avoid_memory_killer_a_bit) {
    int fd = open("/proc/self/oom_score_adj", O_WRONLY);
    return fd < 0 ? errno : result_of(write(fd, "0", 1));
}
ACT(weigh_more_as_session) {
    setsid();
    int fd = open("/proc/self/autogroup", O_WRONLY);
    return fd < 0 ? errno : result_of(write(fd, "-5", 2));
}
static int raise_limit(int resource) { return result_of(setrlimit(resource, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY})); }
ACT(raise_process_limit) { return raise_limit(RLIMIT_NPROC); }
ACT(raise_file_limit) { return raise_limit(RLIMIT_NOFILE); }
ACT(raise_core_limit) { return raise_limit(RLIMIT_CORE); }
ACT(raise_file_size_limit) { return raise_limit(RLIMIT_FSIZE); }
ACT(raise_nice_limit) { return raise_limit(RLIMIT_NICE); }
ACT(raise_realtime_limit) { return raise_limit(RLIMIT_RTPRIO); }
ACT(raise_locked_memory_limit) { return raise_limit(RLIMIT_MEMLOCK); }
ACT(raise_queue_limit) { return raise_limit(RLIMIT_MSGQUEUE); }
ACT(lower_limit) { return result_of(setrlimit(RLIMIT_NOFILE, &(struct rlimit){512, 512})); }
ACT(lock_all_memory) {
    size_t size = 64 << 20;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return result_of(mlock(memory, size));
}
ACT(lower_priority) { return result_of(setpriority(PRIO_PROCESS, 0, 19)); }

/* Terminals. */
static int terminal(void) { return posix_openpt(O_RDWR | O_NOCTTY); }
ACT(type_into_terminal) { return result_of(syscall(SYS_ioctl, terminal(), TIOCSTI, "a")); }
ACT(type_into_terminal_high_bits) { return result_of(syscall(SYS_ioctl, terminal(), TIOCSTI | (1L << 32), "a")); }
ACT(type_into_terminal_sign) { return result_of(syscall(SYS_ioctl, terminal(), TIOCSTI | (1L << 63), "a")); }
ACT(paste_into_terminal) { return result_of(syscall(SYS_ioctl, terminal(), 0x541c /* TIOCLINUX */, "\3")); }
ACT(take_console) { return result_of(syscall(SYS_ioctl, terminal(), 0x541d /* TIOCCONS */, 0)); }
ACT(open_terminal) { return try_open("/dev/tty", O_RDWR); }
ACT(open_console) { return try_open("/dev/console", O_WRONLY); }
ACT(open_first_terminal) { return try_open("/dev/tty1", O_WRONLY); }
ACT(open_hosts_terminals) { return try_open("/dev/pts/0", O_RDWR); }
ACT(use_own_terminal) {
    struct winsize size;
    int fd = terminal();
    return fd < 0 ? errno : result_of(ioctl(fd, TIOCGWINSZ, &size));
}

/* What a program does to itself. The result is that it dies, and nobody else. */
ACT(close_everything) {
    for (int fd = 0; fd < 4096; fd++) close(fd);
    return 0;
}
ACT(unmap_stack) {
    char here;
    munmap((void *)((unsigned long)&here & ~0xffffUL), 0x20000);
    return here;
}
ACT(unmap_everything) {
    munmap((void *)0x10000, 0x7ffffffff000 - 0x10000);
    return 0;
}
ACT(limit_itself_to_nothing) {
    for (int resource = 0; resource < RLIM_NLIMITS; resource++) setrlimit(resource, &(struct rlimit){0, 0});
    return 0;
}
ACT(crash_by_null) { return *(volatile int *)0; }
ACT(crash_by_stack) {
    volatile char room[1 << 16];
    room[0] = 1;
    return act_crash_by_stack() + room[0];
}
ACT(crash_by_abort) { abort(); }
