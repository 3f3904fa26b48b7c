/* Programs that want all there is of something. Each goes on until it is refused or ended. */
#include "acts.h"

#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>

static void for_ever(void) { for (;;) pause(); }

/* Processes. */
ACT(fork_bomb) { for (;;) fork(); }
ACT(vfork_bomb) {
    for (;;)
        if (vfork() == 0) {
            char *const args[] = {"act", "vfork_bomb", NULL};
            execve("/usr/bin/act", args, environ);
            _exit(0);
        }
}
ACT(clone_bomb) {
    /* Without the library, as a program in assembler does. */
    for (;;) {
        long result;
        register long flags __asm__("rdi") = SIGCHLD, stack __asm__("rsi") = 0;
        __asm__ volatile("syscall" : "=a"(result) : "a"(56L), "r"(flags), "r"(stack) : "rcx", "r11", "memory");
    }
}
static void *sleeper(void *unused) {
    for_ever();
    return unused;
}
ACT(thread_bomb) {
    for (;;) {
        pthread_t thread;
        pthread_create(&thread, NULL, sleeper, NULL);
    }
}
ACT(orphan_bomb) {
    for (;;) {
        pid_t pid = fork();
        if (pid == 0) {
            setsid();
            if (fork() >= 0) for_ever();
        }
    }
}
ACT(few_processes) {
    for (int i = 0; i < 4; i++) {
        pid_t pid = fork();
        if (pid < 0) return errno;
        if (pid == 0) _exit(0);
    }
    while (wait(NULL) > 0);
    return 0;
}

/* Time. */
ACT(spin) { for (;;) ; }
ACT(spin_in_kernel) { for (;;) sched_yield(); }
ACT(sleep_for_ever) { for_ever(); return 0; }
ACT(ignore_every_signal) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    for (int number = 1; number < 65; number++) signal(number, SIG_IGN);
    for (;;) ;
}
ACT(stop_itself) {
    for (;;) raise(SIGSTOP);
}
ACT(stop_itself_and_all) {
    for (int i = 0; i < 4; i++) fork();
    for (;;) kill(0, SIGSTOP);
}
ACT(wait_on_lost_lock) {
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    return pthread_mutex_lock(&lock);
}
ACT(compute_a_little) {
    clock_t end = clock() + CLOCKS_PER_SEC / 20;
    while (clock() < end) ;
    return 0;
}

/* Memory. */
static int take(size_t mib) {
    for (size_t i = 0; i < mib; i++) {
        char *memory = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) return errno;
        memset(memory, 1, 1 << 20);
    }
    return 0;
}
ACT(eat_memory) { return take(1 << 20); }
ACT(eat_memory_in_children) {
    for (int i = 0; i < 8; i++)
        if (fork() == 0) {
            take(1 << 20);
            for_ever();
        }
    while (wait(NULL) > 0);
    for_ever();
    return 0;
}
ACT(eat_little_memory) { return take(8); }
ACT(reserve_without_touching) {
    /* 64 TiB of addresses are free of charge. */
    for (int i = 0; i < 64; i++)
        if (mmap(NULL, 1UL << 40, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == MAP_FAILED) return errno;
    return 0;
}
ACT(eat_page_tables) {
    /* One page in each 2 MiB: half of what is taken is the kernel's own. */
    size_t size = 1UL << 44;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return errno;
    for (size_t at = 0; at < size; at += 2 << 20) memory[at] = 1;
    return 0;
}
static int fill_file(const char *path) {
    static char block[1 << 20];
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0) return errno;
    for (;;)
        if (write(fd, block, sizeof block) < 0) return errno;
}
/* In files of 1 MiB, below the limit of one file. */
static int fill_directory(const char *directory) {
    static char block[1 << 20];
    for (int i = 0;; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/piece-%d", directory, i);
        int fd = open(path, O_WRONLY | O_CREAT, 0600);
        if (fd < 0 || write(fd, block, sizeof block) < 0) return errno;
        close(fd);
    }
}
ACT(fill_tmp) { return fill_directory("/tmp"); }
ACT(fill_shm) { return fill_directory("/dev/shm"); }
ACT(fill_memory_file) {
    static char block[1 << 20];
    int fd = syscall(SYS_memfd_create, "full", 0);
    for (;;)
        if (fd < 0 || write(fd, block, sizeof block) < 0) return errno;
}
ACT(fill_shared_segments) {
    for (;;) {
        int id = shmget(IPC_PRIVATE, 16 << 20, IPC_CREAT | 0600);
        if (id < 0) return errno;
        char *memory = shmat(id, NULL, 0);
        if (memory == (void *)-1) return errno;
        memset(memory, 1, 16 << 20);
    }
}
ACT(fill_own_directory) { return fill_directory("/data/open"); }

/* Memory that no process has mapped any more, in pieces of 16 MiB up to 512 MiB, and then held. */
#define PIECE (16UL << 20)
static int hide_memory(void (*hide)(char *), char *(*get)(void)) {
    for (int i = 0; i < 32; i++) {
        char *memory = get();
        if (!memory) return errno;
        memset(memory, 1, PIECE);
        hide(memory);
    }
    for_ever();
    return 0;
}
static char *get_segment(void) {
    int id = shmget(IPC_PRIVATE, PIECE, IPC_CREAT | 0600);
    char *memory = id < 0 ? (char *)-1 : shmat(id, NULL, 0);
    return memory == (char *)-1 ? NULL : memory;
}
static void detach(char *memory) { shmdt(memory); }
static char *get_shared(void) {
    char *memory = mmap(NULL, PIECE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}
static void forget(char *memory) { madvise(memory, PIECE, MADV_DONTNEED); }
ACT(hide_memory_in_segments) { return hide_memory(detach, get_segment); }
ACT(hide_memory_in_shared_pages) { return hide_memory(forget, get_shared); }

/* Kernel memory. Each returns at the first refusal, with as many descriptors as it may have. */
static void raise_descriptors(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}
ACT(many_message_queues) {
    char text[8192 + sizeof(long)] = {1};
    for (;;) {
        int id = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
        if (id < 0) return errno;
        while (msgsnd(id, text, 8192, IPC_NOWAIT) == 0);
    }
}
ACT(many_posix_queues) {
    raise_descriptors();
    char text[8192] = {0};
    for (int i = 0;; i++) {
        char name[32];
        snprintf(name, sizeof name, "/hostile-%d", i);
        struct mq_attr size = {.mq_maxmsg = 10, .mq_msgsize = sizeof text};
        mqd_t queue = mq_open(name, O_CREAT | O_RDWR | O_NONBLOCK, 0600, &size);
        if (queue == (mqd_t)-1) return errno;
        while (mq_send(queue, text, sizeof text, 0) == 0);
    }
}
ACT(many_semaphores) {
    for (;;)
        if (semget(IPC_PRIVATE, 250, IPC_CREAT | 0600) < 0) return errno;
}
ACT(many_files) {
    raise_descriptors();
    for (;;)
        if (open("/dev/null", O_RDONLY) < 0) return errno;
}
ACT(many_pipes) {
    raise_descriptors();
    char block[1 << 16] = {0};
    for (;;) {
        int ends[2];
        if (pipe2(ends, O_NONBLOCK)) return errno;
        fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
        while (write(ends[1], block, sizeof block) > 0);
    }
}
ACT(many_sockets) {
    raise_descriptors();
    char block[1 << 16] = {0};
    for (;;) {
        int ends[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends)) return errno;
        while (send(ends[0], block, sizeof block, 0) > 0);
    }
}
ACT(many_epolls) {
    raise_descriptors();
    for (;;)
        if (epoll_create1(0) < 0) return errno;
}
ACT(many_watches) {
    int watch = inotify_init();
    if (watch < 0) return errno;
    for (int i = 0;; i++) {
        char path[64];
        snprintf(path, sizeof path, "/tmp/watched-%d", i);
        if (mkdir(path, 0700) || inotify_add_watch(watch, path, IN_ALL_EVENTS) < 0) return errno;
    }
}
ACT(many_timers) {
    for (;;) {
        timer_t timer;
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
        if (timer_create(CLOCK_MONOTONIC, &event, &timer)) return errno;
    }
}
ACT(many_queued_signals) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    for (;;)
        if (sigqueue(getpid(), SIGRTMIN, (union sigval){0})) return errno;
}
ACT(many_locks) {
    /* In a file that may be as large as the disk limit, byte by byte. */
    int fd = open("/work/locked", O_RDWR | O_CREAT, 0600);
    for (off_t at = 0; at < 4000; at += 2) {
        struct flock lock = {.l_type = F_WRLCK, .l_start = at, .l_len = 1};
        if (fcntl(fd, F_SETLK, &lock)) return errno;
    }
    return 0;
}
ACT(many_asynchronous_contexts) {
    for (;;) {
        unsigned long context = 0;
        if (syscall(SYS_io_setup, 65536, &context)) return errno;
    }
}
ACT(many_mappings) {
    for (;;)
        if (mmap(NULL, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ||
            mmap(NULL, 4096, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED) return errno;
}
ACT(descriptors_in_flight) {
    /* Descriptors that are sent and not received are nobody's. */
    for (;;) {
        int ends[2];
        if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, ends)) return errno;
        char space[CMSG_SPACE(sizeof ends)] = {0};
        struct iovec part = {"x", 1};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof ends);
        memcpy(CMSG_DATA(head), ends, sizeof ends);
        if (sendmsg(ends[0], &message, 0) < 0) return errno;
        close(ends[0]);
        close(ends[1]);
    }
}
ACT(many_arguments) {
    static char *args[40000];
    static char text[100001];
    memset(text, 'x', 100000);
    args[0] = "act";
    for (int i = 1; i < 39999; i++) args[i] = text;
    execve("/usr/bin/act", args, environ);
    return errno;
}
ACT(few_of_everything) {
    int ends[2], queue = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
    if (queue < 0 || pipe(ends) || epoll_create1(0) < 0 || inotify_init() < 0 || eventfd(0, 0) < 0) return errno;
    return result_of(msgctl(queue, IPC_RMID, NULL));
}

/* Disk. */
ACT(fill_work) { return fill_file("/work/full"); }
ACT(fill_work_in_pieces) { return fill_directory("/work"); }
ACT(fill_work_without_names) {
    raise_descriptors();
    /* Space that no listing of the directory shows. */
    static char block[1 << 20];
    for (int i = 0;; i++) {
        int fd = open("/work", O_TMPFILE | O_WRONLY, 0600);
        if (fd < 0 || write(fd, block, sizeof block) < 0) return errno;
    }
}
ACT(fill_work_in_deleted_files) {
    raise_descriptors();
    static char block[1 << 20];
    for (;;) {
        int fd = open("/work/deleted", O_WRONLY | O_CREAT | O_EXCL, 0600);
        if (fd < 0 || unlink("/work/deleted") || write(fd, block, sizeof block) < 0) return errno;
    }
}
ACT(sparse_file) {
    int fd = open("/work/sparse", O_WRONLY | O_CREAT, 0600);
    return result_of(ftruncate(fd, 1L << 42));
}
ACT(allocate_file) {
    int fd = open("/work/allocated", O_WRONLY | O_CREAT, 0600);
    return result_of(fallocate(fd, 0, 0, 1L << 40));
}
ACT(many_empty_files) {
    for (int i = 0;; i++) {
        char path[64];
        snprintf(path, sizeof path, "/work/e-%d", i);
        int fd = open(path, O_WRONLY | O_CREAT, 0600);
        if (fd < 0) return errno;
        close(fd);
    }
}
ACT(many_empty_files_in_tmp) {
    for (int i = 0;; i++) {
        char path[64];
        snprintf(path, sizeof path, "/tmp/e-%d", i);
        int fd = open(path, O_WRONLY | O_CREAT, 0600);
        if (fd < 0) return errno;
        close(fd);
    }
}
ACT(flood_output) {
    static char block[1 << 16];
    memset(block, 'x', sizeof block);
    for (;;)
        if (write(1, block, sizeof block) < 0) return errno;
}
ACT(flood_errors) {
    static char block[1 << 16];
    memset(block, 'x', sizeof block);
    for (;;)
        if (write(2, block, sizeof block) < 0) return errno;
}
ACT(flood_reopened_output) {
    static char block[1 << 16];
    for (;;) {
        int fd = open("/dev/stdout", O_WRONLY | O_TRUNC);
        lseek(fd, 1L << 33, SEEK_SET);
        if (fd < 0 || write(fd, block, sizeof block) < 0) return errno;
        close(fd);
    }
}
ACT(write_a_little) {
    static char block[1 << 20];
    int fd = open("/work/little", O_WRONLY | O_CREAT, 0600);
    return fd < 0 ? errno : result_of(write(fd, block, sizeof block));
}

/* What is left behind. Ends well; the test looks at the host. */
ACT(leave_everything) {
    long text[2] = {1, 0};
    int segment = shmget(0x4c1e97d0, 4096, IPC_CREAT | 0641), queue = msgget(0x4c1e97d0, IPC_CREAT | 0641);
    if (segment < 0 || queue < 0 || semget(0x4c1e97d0, 3, IPC_CREAT | 0641) < 0) return errno;
    shmat(segment, NULL, 0);
    msgsnd(queue, text, sizeof(long), 0);
    mq_open("/hostile-4c1e97d0", O_CREAT | O_RDWR, 0600, NULL);
    make_file("/dev/shm/hostile-4c1e97d0", "x", 0600);
    make_file("/tmp/hostile-4c1e97d0", "x", 0600);
    return act_few_processes();
}
ACT(leave_daemon) {
    if (fork() == 0) {
        setsid();
        if (fork() == 0) {
            sigset_t all;
            sigfillset(&all);
            sigprocmask(SIG_BLOCK, &all, NULL);
            for (int number = 1; number < 65; number++) signal(number, SIG_IGN);
            for (int fd = 0; fd < 64; fd++) close(fd);
            for_ever();
        }
        _exit(0);
    }
    return result_of(wait(NULL));
}
ACT(leave_stopped_daemon) {
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        raise(SIGSTOP);
        for_ever();
    }
    int status;
    return result_of(waitpid(pid, &status, WUNTRACED));
}
ACT(leave_many_daemons) {
    for (int i = 0; i < 24; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            setsid();
            fork();
            for (;;) ;
        }
    }
    return 0;
}
