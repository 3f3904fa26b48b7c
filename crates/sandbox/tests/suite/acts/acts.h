/* What the acts share. An act is one thing that a hostile program, or its harmless twin, does; it returns 0 when
 * that was possible, else the errno. Defining one puts it into the table that main.c looks names up in. */
#ifndef ACTS_H
#define ACTS_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct act {
    const char *name;
    int (*run)(void);
};

#define ACT(NAME)                                                                                          \
    static int act_##NAME(void);                                                                           \
    static const struct act entry_##NAME __attribute__((section("acts"), used, aligned(8))) = {#NAME, act_##NAME}; \
    static int act_##NAME(void)

/* An act that is one system call. */
#define CALL_ACT(NAME, ...) \
    ACT(NAME) { return result_of(syscall(__VA_ARGS__)); }

/* What the act comes to when it did something that it must not be able to. */
#define POSSIBLE 0

/* 0, or the errno of the call that just returned `value`. */
int result_of(long value);

/* What the test says about the host, such as the path of a file there. */
const char *from_host(const char *name);

/* Opens and closes a file. */
int try_open(const char *path, int flags);

/* Makes a file of this text, with this mode. */
int make_file(const char *path, const char *text, int mode);

/* Makes a copy of this program that has all rights but the mount's. */
int copy_self(const char *path);

/* Runs an act in a child of its own; what it came to, or 128 and the signal that ended it. */
int in_child(int (*run)(void));

/* Becomes the file, which must be this program. Returns only when that fails. */
int execute(const char *path);

#endif
