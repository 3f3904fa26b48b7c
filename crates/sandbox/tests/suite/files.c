/* Acts upon files, for the tests of the root directory; a part of hostile.c's program. `file ACT ARGUMENT…` prints
 * the act and its errno, and exits with 0 when it was possible. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int map(const char *path, int flags, int protection, int sharing) {
    int fd = open(path, flags);
    if (fd < 0) return -1;
    return mmap(0, 4096, protection, sharing, fd, 0) == MAP_FAILED ? -1 : 0;
}

/* Copies its own file and does with the copy what a loader does with a library. */
static int map_copy(const char *path) {
    char buffer[1 << 16];
    int from = open("/proc/self/exe", O_RDONLY), to = open(path, O_RDWR | O_CREAT | O_TRUNC, 0700);
    if (from < 0 || to < 0) return -1;
    for (ssize_t n; (n = read(from, buffer, sizeof buffer)) > 0;)
        if (write(to, buffer, n) != n) return -1;
    return mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, to, 0) == MAP_FAILED ? -1 : 0;
}

static int put(const char *path, const char *text, int flags) {
    int fd = open(path, O_WRONLY | flags, 0600);
    if (fd < 0 || write(fd, text, strlen(text)) < 0) return -1;
    return close(fd);
}

/* Through its own memory as a file, over protection. */
static int write_text(void) {
    static const char patch[] = {0x90};
    int fd = open("/proc/self/mem", O_RDWR);
    return fd < 0 || pwrite(fd, patch, 1, (off_t)&write_text) != 1 ? -1 : 0;
}

/* Memory that is written, then made executable. */
static int generate_code(void) {
    unsigned char *code = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED) return -1;
    memcpy(code, (unsigned char[]){0xb8, 0, 0, 0, 0, 0xc3}, 6);
    if (mprotect(code, 4096, PROT_READ | PROT_EXEC)) return -1;
    return ((int (*)(void))code)();
}

static int show(const char *path) {
    char buffer[4096];
    int fd = open(path, O_RDONLY);
    if (fd < 0) return -1;
    for (ssize_t n; (n = read(fd, buffer, sizeof buffer)) > 0;) fwrite(buffer, 1, n, stdout);
    return 0;
}

static int act(const char *act, const char *a, const char *b) {
    if (!strcmp(act, "append")) return put(a, b, O_APPEND);
    if (!strcmp(act, "create")) return put(a, b, O_CREAT | O_EXCL);
    if (!strcmp(act, "open_write")) return open(a, O_WRONLY);
    if (!strcmp(act, "truncate")) return truncate(a, 0);
    if (!strcmp(act, "rename")) return rename(a, b);
    if (!strcmp(act, "replace")) return put("/tmp/new", "new", O_CREAT) || rename("/tmp/new", a) ? -1 : 0;
    if (!strcmp(act, "link")) return link(a, b);
    if (!strcmp(act, "unlink")) return unlink(a);
    if (!strcmp(act, "mkdir")) return mkdir(a, 0700);
    if (!strcmp(act, "rmdir")) return rmdir(a);
    if (!strcmp(act, "symlink")) return symlink(a, b);
    if (!strcmp(act, "chmod")) return chmod(a, strtol(b, 0, 8));
    if (!strcmp(act, "touch")) return utimensat(AT_FDCWD, a, 0, 0);
    if (!strcmp(act, "map_shared")) return map(a, O_RDWR, PROT_READ | PROT_WRITE, MAP_SHARED);
    if (!strcmp(act, "map_private")) return map(a, O_RDONLY, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    if (!strcmp(act, "map_exec")) return map(a, O_RDONLY, PROT_READ | PROT_EXEC, MAP_PRIVATE);
    if (!strcmp(act, "map_copy")) return map_copy(a);
    if (!strcmp(act, "execute")) return execl(a, a, "file", "say", "done", NULL);
    if (!strcmp(act, "show")) return show(a);
    if (!strcmp(act, "write_text")) return write_text();
    if (!strcmp(act, "generate_code")) return generate_code();
    if (!strcmp(act, "say")) return puts(a) < 0 ? -1 : 0;
    errno = ENOSYS;
    return -1;
}

int file(int argc, char **argv) {
    int failed = argc < 2 || act(argv[1], argc > 2 ? argv[2] : "", argc > 3 ? argv[3] : "") < 0;
    int error = failed ? errno : 0;
    fflush(stdout);
    printf("%s %d\n", argc > 1 ? argv[1] : "", error);
    return failed;
}
