/* A program that is linked dynamically, and loads what it is told to. Says what it came to. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static void copy(const char *from, const char *to) {
    char buffer[1 << 16];
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0700);
    for (ssize_t n; (n = read(in, buffer, sizeof buffer)) > 0;)
        if (write(out, buffer, n) != n) break;
    close(in);
    close(out);
}

/* `program [FROM TO]... [FILE]`: copies files, then loads the last. */
int main(int argc, char **argv) {
    int i = 1;
    for (; i + 2 < argc; i += 2) copy(argv[i], argv[i + 1]);
    if (i < argc) printf("%s\n", dlopen(argv[i], RTLD_NOW) ? "loaded" : dlerror());
    printf("done\n");
    return 0;
}
