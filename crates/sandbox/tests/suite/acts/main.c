/* Runs acts by name, each in a process of its own, and prints a line for each: its name and what it came to, an
 * errno or `signal` with a number. Static, so that a tree needs nothing but this file. */
#include "acts.h"

/* Longest time for one act: more means that it hangs. */
#define PATIENCE_SECONDS 20

/* An errno that fits an exit status; signals lie above. */
#define FIRST_SIGNAL 160

extern const struct act __start_acts[], __stop_acts[];

int result_of(long value) { return value < 0 ? errno : 0; }

const char *from_host(const char *name) {
    const char *value = getenv(name);
    if (!value) {
        fprintf(stderr, "the test must set %s\n", name);
        _exit(255);
    }
    return value;
}

int try_open(const char *path, int flags) {
    int fd = open(path, flags | O_NONBLOCK | O_NOCTTY, 0600);
    int result = result_of(fd);
    if (fd >= 0) close(fd);
    return result;
}

int make_file(const char *path, const char *text, int mode) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, text, strlen(text)) < 0 || fchmod(fd, mode)) return errno;
    close(fd);
    return 0;
}

int copy_self(const char *path) {
    char buffer[1 << 16];
    int from = open("/proc/self/exe", O_RDONLY), to = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0700);
    if (from < 0 || to < 0) return errno;
    for (ssize_t n; (n = read(from, buffer, sizeof buffer)) > 0;)
        if (write(to, buffer, n) != n) return errno;
    close(from);
    close(to);
    return 0;
}

int in_child(int (*run)(void)) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) return errno;
    if (pid == 0) {
        alarm(PATIENCE_SECONDS);
        _exit(run());
    }
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return errno;
    return WIFSIGNALED(status) ? FIRST_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
}

int execute(const char *path) {
    char *const args[] = {(char *)path, "nothing", NULL};
    execve(path, args, environ);
    return errno;
}

ACT(nothing) { return 0; }

static const struct act *find(const char *name) {
    for (const struct act *act = __start_acts; act < __stop_acts; act++)
        if (!strcmp(act->name, name)) return act;
    fprintf(stderr, "no act '%s'\n", name);
    exit(255);
}

/* `act NAME [MARK]` becomes that act, and can be told by its mark; `act each NAME...` runs one after the other. */
int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1 && strcmp(argv[1], "each")) return find(argv[1])->run();
    for (int i = 2; i < argc; i++) {
        int result = in_child(find(argv[i])->run);
        if (result > FIRST_SIGNAL && result < 255)
            printf("%s signal %d\n", argv[i], result - FIRST_SIGNAL);
        else
            printf("%s %d\n", argv[i], result);
    }
    return 0;
}
