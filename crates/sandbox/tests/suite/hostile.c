/* The program that the suite runs in the sandbox: one hostile or harmless act per name. Static, so that a tree
 * needs nothing but this file. Prints what came of the act; its exit status is 0 when the act was possible. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int file(int argc, char **argv);

static void say(const char *name, long result) {
    printf("%s %d\n", name, result < 0 ? errno : 0);
    fflush(stdout);
}

/* For what is refused by doing nothing about it. */
static void say_unless_changed(const char *name, int changed) {
    errno = EPERM;
    say(name, changed ? 0 : -1);
}

#define CALL(name, ...) say(name, syscall(__VA_ARGS__))

static long try_socket(int family, int kind) {
    int fd = socket(family, kind, 0);
    if (fd >= 0) close(fd);
    return fd;
}

/* As syscall, for numbers that glibc knows nothing of; in a child, because some are answered with a signal. */
static void int80(void) {
    pid_t pid = fork();
    if (pid == 0) {
        long result;
        __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory");
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    printf("int80 %d\n", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

static int calls(void) {
    struct timeval zero = {0, 0};
    char handle[128] = {0};
    CALL("mount", SYS_mount, "none", "/tmp", "tmpfs", 0, 0);
    CALL("umount2", SYS_umount2, "/proc", MNT_DETACH);
    CALL("pivot_root", SYS_pivot_root, ".", ".");
    CALL("chroot", SYS_chroot, "/tmp");
    CALL("fsopen", SYS_fsopen, "tmpfs", 0);
    CALL("open_tree", SYS_open_tree, AT_FDCWD, "/", 1);
    CALL("unshare_user", SYS_unshare, CLONE_NEWUSER);
    CALL("unshare_net", SYS_unshare, CLONE_NEWNET);
    CALL("setns", SYS_setns, 0, 0);
    CALL("clone_newuser", SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    CALL("clone_newnet", SYS_clone, CLONE_NEWNET | SIGCHLD, 0, 0, 0, 0);
    CALL("clone3", SYS_clone3, 0, 0);
    CALL("io_uring_setup", SYS_io_uring_setup, 1, 0);
    CALL("memfd_secret", 447, 0);
    CALL("memfd_create", SYS_memfd_create, "a", 0);
    CALL("execveat_empty_path", SYS_execveat, open("/proc/self/exe", O_PATH), "", 0, 0, AT_EMPTY_PATH);
    CALL("openat2", SYS_openat2, AT_FDCWD, "/", handle, 24);
    CALL("seccomp", SYS_seccomp, 2, 0, &zero);
    CALL("prctl_seccomp", SYS_prctl, PR_SET_SECCOMP, 1, 0, 0, 0);
    CALL("landlock_create_ruleset", SYS_landlock_create_ruleset, 0, 0, 1);
    CALL("io_setup", SYS_io_setup, 1, &zero);
    CALL("remap_file_pages", SYS_remap_file_pages, 0, 0, 0, 0, 0);
    CALL("number_without_a_call", 1000);
    CALL("map_write_exec", SYS_mmap, 0, 4096, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CALL("map_exec", SYS_mmap, 0, 4096, PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int self = open("/proc/self/exe", O_RDONLY);
    CALL("map_file_write_exec", SYS_mmap, 0, 4096, PROT_WRITE | PROT_EXEC, MAP_PRIVATE, self, 0);
    void *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CALL("protect_exec", SYS_mprotect, page, 4096, PROT_READ | PROT_EXEC);
    CALL("pkey_protect_exec", SYS_pkey_mprotect, page, 4096, PROT_READ | PROT_EXEC, -1);
    int shared = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
    CALL("attach_exec", SYS_shmat, shared, 0, SHM_EXEC);
    CALL("huge_pages", SYS_mmap, 0, 2 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    CALL("merge_pages", SYS_madvise, page, 4096, MADV_MERGEABLE);
    int file = open("/work/file", O_RDWR | O_CREAT, 0600);
    CALL("chmod_setuid", SYS_fchmod, file, 04700);
    CALL("create_setgid", SYS_openat, AT_FDCWD, "/work/setgid", O_CREAT | O_WRONLY, 02700);
    CALL("mknod_whiteout", SYS_mknod, "/work/whiteout", S_IFCHR | 0600, 0);
    CALL("rename_whiteout", SYS_renameat2, AT_FDCWD, "/work/file", AT_FDCWD, "/work/other", 1 << 2);
    CALL("lease", SYS_fcntl, file, F_SETLEASE, F_WRLCK);
    CALL("share_core", SYS_prctl, 62, 1, 0, 0, 0);
    CALL("hide_from_accounting", SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    cpu_set_t before, one, after;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_getaffinity(0, sizeof before, &before);
    sched_setaffinity(0, sizeof one, &one);
    sched_getaffinity(0, sizeof after, &after);
    say_unless_changed("bind_to_processor", !CPU_EQUAL(&before, &after));
    CALL("x32_getpid", 0x40000000 + 39);
    CALL("ptrace", SYS_ptrace, PTRACE_TRACEME, 0, 0, 0);
    struct iovec mine = {handle, 8}, own = {&zero, 8}, portal = {(void *)0x400000, 8};
    CALL("portal_process_vm_readv", SYS_process_vm_readv, 1, &mine, 1, &portal, 1, 0);
    CALL("process_vm_writev", SYS_process_vm_writev, getpid(), &mine, 1, &own, 1, 0);
    CALL("pidfd_getfd", SYS_pidfd_getfd, 0, 0, 0);
    CALL("kcmp", SYS_kcmp, getpid(), getpid(), 0, 0, 0);
    CALL("bpf", SYS_bpf, 0, 0, 0);
    CALL("perf_event_open", SYS_perf_event_open, 0, 0, -1, -1, 0);
    CALL("userfaultfd", SYS_userfaultfd, 0);
    CALL("keyctl", SYS_keyctl, 0, -3, 0);
    CALL("add_key", SYS_add_key, "user", "a", "b", 1, -3);
    CALL("kexec_load", SYS_kexec_load, 0, 0, 0, 0);
    CALL("init_module", SYS_init_module, 0, 0, "");
    CALL("reboot", SYS_reboot, 0, 0, 0, 0);
    CALL("swapon", SYS_swapon, "/tmp/a", 0);
    CALL("acct", SYS_acct, 0);
    CALL("iopl", SYS_iopl, 3);
    CALL("settimeofday", SYS_settimeofday, &zero, 0);
    CALL("sethostname", SYS_sethostname, "a", 1);
    CALL("open_by_handle_at", SYS_open_by_handle_at, AT_FDCWD, handle, 0);
    CALL("fanotify_init", SYS_fanotify_init, 0, 0);
    CALL("quotactl", SYS_quotactl, 0, 0, 0, 0);
    CALL("ioprio_set", SYS_ioprio_set, 1, 0, (2 << 13) | 4);
    CALL("tiocsti", SYS_ioctl, 0, TIOCSTI, "a");
    CALL("tiocsti_high_bits", SYS_ioctl, 0, TIOCSTI | (1L << 32), "a");
    CALL("personality_read_implies_exec", SYS_personality, READ_IMPLIES_EXEC);
    say("socket_netlink", try_socket(AF_NETLINK, SOCK_RAW));
    say("socket_packet", try_socket(AF_PACKET, SOCK_RAW));
    say("socket_vsock", try_socket(AF_VSOCK, SOCK_STREAM));
    say("socket_alg", try_socket(AF_ALG, SOCK_SEQPACKET));
    say("socket_bluetooth", try_socket(AF_BLUETOOTH, SOCK_RAW));
    say("socket_raw", try_socket(AF_INET, SOCK_RAW));
    CALL("socket_sctp", SYS_socket, AF_INET, SOCK_STREAM, 132);
    int stream = socket(AF_INET, SOCK_STREAM, 0);
    CALL("socket_filter", SYS_setsockopt, stream, SOL_SOCKET, SO_ATTACH_FILTER, &zero, 16);
    CALL("socket_tunnel", SYS_setsockopt, socket(AF_INET, SOCK_DGRAM, 0), IPPROTO_UDP, 100, &(int){2}, sizeof(int));
    CALL("socket_upper_protocol", SYS_setsockopt, stream, IPPROTO_TCP, 31, "tls", 3);
    say("mknod_device", mknod("/tmp/device", S_IFBLK | 0600, 0x800));
    say("setuid_root", setuid(0));
    say("setgroups", syscall(SYS_setgroups, 0, 0));
    setpriority(PRIO_PROCESS, 0, 0);
    say_unless_changed("renice", getpriority(PRIO_PROCESS, 0) != 19);
    int before_portal = getpriority(PRIO_PROCESS, 1);
    setpriority(PRIO_PROCESS, 1, before_portal == 19 ? 18 : 19);
    say_unless_changed("portal_priority", getpriority(PRIO_PROCESS, 1) != before_portal);
    CALL("portal_limits", SYS_prlimit64, 1, RLIMIT_NOFILE, &(struct rlimit){0, 0}, 0);
    sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){0});
    say_unless_changed("leave_idle_class", sched_getscheduler(0) != SCHED_IDLE);
    say("realtime_class", sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){1}));
    say("raise_limit", setrlimit(RLIMIT_NPROC, &(struct rlimit){1 << 20, 1 << 20}));
    say("write_sysctl", open("/proc/sys/kernel/hostname", O_WRONLY));
    say("write_sysrq", open("/proc/sysrq-trigger", O_WRONLY));
    say("portal_memory", open("/proc/1/mem", O_RDWR));
    say("portal_files", open("/proc/1/fd", O_RDONLY));
    say("portal_root", open("/proc/1/root/etc", O_RDONLY));
    int80();
    /* The harmless twins. */
    CALL("getpid", SYS_getpid);
    CALL("process_vm_readv", SYS_process_vm_readv, getpid(), &mine, 1, &own, 1, 0);
    CALL("map_file_exec", SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, self, 0);
    CALL("map_write", SYS_mmap, 0, 4096, PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CALL("protect_write", SYS_mprotect, page, 4096, PROT_READ | PROT_WRITE);
    CALL("attach", SYS_shmat, shared, 0, 0);
    CALL("dont_need_pages", SYS_madvise, page, 4096, MADV_DONTNEED);
    CALL("chmod", SYS_fchmod, file, 0755);
    CALL("rename", SYS_renameat2, AT_FDCWD, "/work/file", AT_FDCWD, "/work/other", 0);
    CALL("lock", SYS_fcntl, file, F_SETLK, &(struct flock){.l_type = F_WRLCK});
    CALL("name_thread", SYS_prctl, PR_SET_NAME, "a", 0, 0, 0);
    CALL("keep_alive", SYS_setsockopt, stream, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int));
    CALL("lower_priority", SYS_setpriority, PRIO_PROCESS, 0, 19);
    CALL("sync", SYS_sync);
    CALL("lock_memory", SYS_mlock, page, 4096);
    CALL("personality_ask", SYS_personality, 0xffffffff);
    say("socket_unix", try_socket(AF_UNIX, SOCK_STREAM));
    say("socket_inet", try_socket(AF_INET, SOCK_STREAM));
    say("socket_inet6", try_socket(AF_INET6, SOCK_DGRAM));
    say("mkfifo", mkfifo("/tmp/fifo", 0600));
    say("lower_limit", setrlimit(RLIMIT_NOFILE, &(struct rlimit){512, 512}));
    say("read_sysctl", open("/proc/sys/kernel/pid_max", O_RDONLY));
    pid_t child = fork();
    if (child == 0) _exit(0);
    say("fork", child);
    waitpid(child, 0, 0);
    int pty = posix_openpt(O_RDWR | O_NOCTTY);
    struct winsize size;
    say("pty", pty);
    say("ioctl_on_pty", ioctl(pty, TIOCGWINSZ, &size));
    return 0;
}

/* Code that returns 42, made in memory that is first written, then executed. */
static int compile(void) {
    const unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3};
    void *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(page, code, sizeof code);
    int result = mprotect(page, 4096, PROT_READ | PROT_EXEC);
    if (result) return say("compile", result), 1;
    return printf("%d\n", ((int (*)(void))page)()), 0;
}

static void *sleeper(void *unused) {
    pause();
    return unused;
}

static int count_tasks(int threads, int most) {
    int made = 0;
    for (; made < most; made++) {
        pthread_t thread;
        if (threads) {
            if (pthread_create(&thread, 0, sleeper, 0) != 0) break;
        } else {
            pid_t pid = fork();
            if (pid < 0) break;
            if (pid == 0) sleeper(0);
        }
    }
    printf("%d\n", made);
    fflush(stdout);
    return made == most ? 0 : 1;
}

static int connect_to(int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int result = connect(fd, (void *)&to, sizeof to);
    say("connect", result);
    return result < 0;
}

/* Over its own loopback, as parallel programs talk to their parts. */
static int talk_to_self(void) {
    int server = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    if (bind(server, (void *)&at, sizeof at) || listen(server, 1) || getsockname(server, (void *)&at, &length)) return 1;
    return connect_to(ntohs(at.sin_port));
}

static int connect_abstract(const char *name) {
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strncpy(to.sun_path + 1, name, sizeof to.sun_path - 2);
    int result = connect(fd, (void *)&to, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
    say("connect", result);
    return result < 0;
}

static int files(void) {
    DIR *dir = opendir("/proc/self/fd");
    int own = dirfd(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_name[0] != '.' && atoi(entry->d_name) != own) printf("%s ", entry->d_name);
    printf("\n");
    return 0;
}

static int eat(const char *mib) {
    size_t bytes = (size_t)atol(mib) << 20;
    char *memory = malloc(bytes);
    if (!memory) return 1;
    memset(memory, 1, bytes);
    printf("ate\n");
    return 0;
}

static int fill(const char *path, const char *mib) {
    static char block[1 << 20];
    memset(block, 1, sizeof block);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    for (long left = atol(mib) << 20; left > 0;) {
        ssize_t written = write(fd, block, sizeof block);
        if (written < 0) {
            say("fill", -1);
            return 1;
        }
        left -= written;
    }
    say("fill", 0);
    return 0;
}

static int flood(const char *mib) {
    static char block[1 << 16];
    memset(block, 'x', sizeof block);
    for (long i = 0; i < atol(mib) * 16; i++)
        if (write(1, block, sizeof block) < 0) return 1;
    return 0;
}

/* Leaves a grandchild in a session of its own that ignores every signal it can. */
static int daemonize(void) {
    if (fork() == 0) {
        setsid();
        if (fork() == 0) {
            for (int signal_number = 1; signal_number < 65; signal_number++) signal(signal_number, SIG_IGN);
            for (;;) pause();
        }
        _exit(0);
    }
    wait(0);
    printf("left\n");
    return 0;
}

static int run_copy(const char *path) {
    char buffer[1 << 16];
    int from = open("/proc/self/exe", O_RDONLY), to = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0700);
    if (from < 0 || to < 0) return 2;
    for (ssize_t n; (n = read(from, buffer, sizeof buffer)) > 0;) write(to, buffer, n);
    close(to);
    execl(path, path, "hello", NULL);
    say("execute", -1);
    return 1;
}

static int try_open(const char *path, int flags) {
    int fd = open(path, flags, 0600);
    say(path, fd);
    return fd < 0;
}

static int count_up(const char *path, int children) {
    for (int i = 0; i < children; i++)
        if (fork() == 0)
            for (;;) ;
    for (long i = 0;; i++) {
        int fd = open(path, O_WRONLY | O_CREAT, 0600);
        dprintf(fd, "%ld\n", i);
        close(fd);
    }
}

/* Processor time shared out among children that nobody waits for: SIGCHLD is ignored. */
static int spin_children(long children) {
    signal(SIGCHLD, SIG_IGN);
    for (long i = 0; i < children; i++)
        if (fork() == 0)
            for (;;) ;
    for (;;) pause();
}

/* Files that are written, then have their names taken away, and stay open. */
static int hide(const char *files, const char *mib) {
    static char block[1 << 20];
    memset(block, 1, sizeof block);
    for (long i = 0; i < atol(files); i++) {
        int fd = open("hidden", O_WRONLY | O_CREAT | O_EXCL, 0600);
        if (fd < 0 || unlink("hidden") < 0) return 2;
        for (long n = 0; n < atol(mib); n++)
            if (write(fd, block, sizeof block) != sizeof block) return say("hide", -1), 1;
    }
    printf("hidden\n");
    fflush(stdout);
    sleep(3);
    return 0;
}

/* Writes a file over and over, or reads it, and prints how many KiB a second that made. */
static int stream(const char *way, double seconds) {
    static char block[1 << 16];
    struct timespec begun, now;
    int writes = !strcmp(way, "write");
    int fd = open("stream", O_RDWR | O_CREAT, 0600);
    for (int n = 0; n < 64; n++) write(fd, block, sizeof block);
    clock_gettime(CLOCK_MONOTONIC, &begun);
    double bytes = 0, spent = 0;
    for (long n = 0; spent < seconds; n++) {
        off_t at = n % 64 * (off_t)sizeof block;
        ssize_t moved = writes ? pwrite(fd, block, sizeof block, at) : pread(fd, block, sizeof block, at);
        if (moved != sizeof block) return 1;
        bytes += moved;
        clock_gettime(CLOCK_MONOTONIC, &now);
        spent = now.tv_sec - begun.tv_sec + (now.tv_nsec - begun.tv_nsec) / 1e9;
    }
    printf("%.0f\n", bytes / spent / 1024);
    return 0;
}

static void *count_for_ever(void *counter) {
    for (;;) ++*(volatile long *)counter;
}

/* A tree of processes with threads, each counting in a page of a file that can be read from outside. */
static int busy_tree(const char *path, int processes, int threads) {
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    ftruncate(fd, (off_t)processes * threads * 64);
    char *counters = mmap(0, (size_t)processes * threads * 64, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    for (int p = 0; p < processes; p++) {
        if (p > 0 && fork() != 0) continue;
        for (int t = p > 0; t < threads; t++) {
            pthread_t thread;
            pthread_create(&thread, 0, count_for_ever, counters + (p * threads + t) * 64);
        }
        if (p > 0) count_for_ever(counters + p * threads * 64);
    }
    for (;;) pause();
}

int main(int argc, char **argv) {
    const char *act = argc > 1 ? argv[1] : "hello";
    const char *a = argc > 2 ? argv[2] : "", *b = argc > 3 ? argv[3] : "";
    if (!strcmp(act, "hello")) return printf("hello\n"), 0;
    if (!strcmp(act, "exit")) return atoi(a);
    if (!strcmp(act, "signal")) return raise(atoi(a));
    if (!strcmp(act, "both")) return printf("out\n"), fprintf(stderr, "err\n"), 0;
    if (!strcmp(act, "env")) { for (char **e = environ; *e; e++) puts(*e); return 0; }
    if (!strcmp(act, "args")) { for (int i = 0; i < argc; i++) puts(argv[i]); return 0; }
    if (!strcmp(act, "copy")) { for (int c; (c = getchar()) != EOF;) putchar(c); return 0; }
    if (!strcmp(act, "whoami")) return printf("%d %d %d\n", getuid(), getgid(), getpid() > 1), 0;
    if (!strcmp(act, "pwd")) { char d[4096]; puts(getcwd(d, sizeof d)); return 0; }
    if (!strcmp(act, "forever")) { printf("up\n"); fflush(stdout); for (;;) pause(); }
    if (!strcmp(act, "busy")) for (;;) ;
    if (!strcmp(act, "spin")) { while (clock() < atol(a) * (CLOCKS_PER_SEC / 1000)) ; return 0; }
    if (!strcmp(act, "calls")) return calls();
    if (!strcmp(act, "compile")) return compile();
    if (!strcmp(act, "processes")) return count_tasks(0, atoi(a));
    if (!strcmp(act, "threads")) return count_tasks(1, atoi(a));
    if (!strcmp(act, "forkbomb")) for (;;) fork();
    if (!strcmp(act, "connect")) return connect_to(atoi(a));
    if (!strcmp(act, "talk")) return talk_to_self();
    if (!strcmp(act, "abstract")) return connect_abstract(a);
    if (!strcmp(act, "files")) return files();
    if (!strcmp(act, "eat")) return eat(a);
    if (!strcmp(act, "fill")) return fill(a, b);
    if (!strcmp(act, "flood")) return flood(a);
    if (!strcmp(act, "daemonize")) return daemonize();
    if (!strcmp(act, "run_copy")) return run_copy(a);
    if (!strcmp(act, "read")) return try_open(a, O_RDONLY);
    if (!strcmp(act, "write")) return try_open(a, O_WRONLY);
    if (!strcmp(act, "create")) return try_open(a, O_WRONLY | O_CREAT);
    if (!strcmp(act, "file")) return file(argc - 1, argv + 1);
    if (!strcmp(act, "see_writes")) {
        FILE *f = fopen(a, "a");
        if (!f || fputs("more\n", f) < 0 || fclose(f)) return 1;
        f = fopen(a, "r");
        for (int c; f && (c = getc(f)) != EOF;) putchar(c);
        return !f;
    }
    if (!strcmp(act, "list")) {
        DIR *dir = opendir(a);
        for (struct dirent *e; dir && (e = readdir(dir));) if (e->d_name[0] != '.') puts(e->d_name);
        return !dir;
    }
    if (!strcmp(act, "show")) { FILE *f = fopen(a, "r"); for (int c; f && (c = getc(f)) != EOF;) putchar(c); return !f; }
    if (!strcmp(act, "killall")) { kill(-1, SIGKILL); kill(1, SIGKILL); kill(1, SIGSTOP); return printf("sent\n"), 0; }
    if (!strcmp(act, "empty_files")) {
        for (long i = 0; i < atol(a); i++) { char p[64]; sprintf(p, "f%ld", i); close(open(p, O_CREAT | O_WRONLY, 0600)); }
        return 0;
    }
    if (!strcmp(act, "spin_children")) return spin_children(atol(a));
    if (!strcmp(act, "hide")) return hide(a, b);
    if (!strcmp(act, "stream")) return stream(a, atof(b));
    if (!strcmp(act, "busy_tree")) return busy_tree(a, atoi(b), atoi(argv[4]));
    if (!strcmp(act, "threadbomb")) { for (;;) { pthread_t t; pthread_create(&t, 0, sleeper, 0); } }
    if (!strcmp(act, "count_up")) return count_up(a, atoi(b));
    fprintf(stderr, "no act '%s'\n", act);
    return 2;
}
