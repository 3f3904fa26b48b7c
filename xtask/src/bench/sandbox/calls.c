/* What a system call costs where this program runs: one line "name nanoseconds" for each kind, the quickest of many
 * batches. A batch is far shorter than the slice of time that the scheduler gives: a sandbox of the lowest priority is
 * often set aside on a busy machine, and that is not what is measured. Built static, so that it is the same program in
 * every sandbox. With an argument it does nothing: that is what it executes itself for. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096 };

static char self[PAGE], page[PAGE];
static int file;
extern char **environ;

static void must(int holds, const char *what) {
    if (!holds) {
        perror(what);
        exit(1);
    }
}

static void *nothing(void *unused) { return unused; }

static void call_getpid(void) { syscall(SYS_getpid); }

static void call_open(void) {
    int opened = open("file", O_RDONLY);
    must(opened >= 0, "open");
    close(opened);
}

static void call_stat(void) {
    struct stat found;
    must(stat("file", &found) == 0, "stat");
}

static void call_pread(void) { must(pread(file, page, PAGE, 0) == PAGE, "pread"); }

static void call_pwrite(void) { must(pwrite(file, page, PAGE, 0) == PAGE, "pwrite"); }

static void call_mmap(void) {
    void *mapped = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(mapped != MAP_FAILED, "mmap");
    munmap(mapped, PAGE);
}

static void call_thread(void) {
    pthread_t thread;
    must(pthread_create(&thread, NULL, nothing, NULL) == 0, "pthread_create");
    pthread_join(thread, NULL);
}

static void wait_for(pid_t child) {
    int status;
    must(waitpid(child, &status, 0) == child && status == 0, "waitpid");
}

static void call_fork(void) {
    pid_t child = fork();
    if (child == 0) _exit(0);
    must(child > 0, "fork");
    wait_for(child);
}

static void call_exec(void) {
    char *args[] = {self, "nothing", NULL};
    pid_t child = vfork();
    if (child == 0) {
        execve(self, args, environ);
        _exit(1);
    }
    must(child > 0, "vfork");
    wait_for(child);
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static const struct { const char *name; void (*call)(void); int times, batches; } KINDS[] = {
    {"getpid", call_getpid, 500, 400},    {"open+close", call_open, 50, 200}, {"stat", call_stat, 100, 200},
    {"pread 4K", call_pread, 100, 200},   {"pwrite 4K", call_pwrite, 50, 200}, {"mmap+munmap", call_mmap, 50, 200},
    {"thread", call_thread, 5, 100},      {"fork", call_fork, 1, 200},        {"vfork+exec", call_exec, 1, 200},
};

int main(int count, char **arguments) {
    if (count > 1) return 0;
    (void)arguments;
    must(readlink("/proc/self/exe", self, sizeof self - 1) > 0, "/proc/self/exe");
    file = open("file", O_RDWR | O_CREAT | O_TRUNC, 0600);
    must(file >= 0, "create");
    call_pwrite();
    for (size_t kind = 0; kind < sizeof KINDS / sizeof *KINDS; kind++) {
        double best = 1e9;
        for (int batch = 0; batch < KINDS[kind].batches; batch++) {
            double begun = seconds();
            for (int time = 0; time < KINDS[kind].times; time++) KINDS[kind].call();
            double taken = (seconds() - begun) / KINDS[kind].times;
            if (taken < best) best = taken;
        }
        printf("%s\t%.1f\n", KINDS[kind].name, best * 1e9);
    }
    unlink("file");
    return 0;
}
