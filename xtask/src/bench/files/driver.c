/* Measures one part of what programs do with files, in the current directory: `driver PART MIB`. Prints lines
 * "name value", values in MiB or operations a second, so that more is better. Every part begins when all that was written
 * before is on the disk; a part that is named cold begins with empty caches, which takes root. Parts rely on files that
 * earlier ones left. The same program for every file system that is compared. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, BLOCK = 8192, POOL = 16 << 20, SMALL = 1024, SMALL_FILES = 4000, APPENDS = 200 };
/* Random operations: enough for a tenth of a second or more, from the disk too. */
enum { WARM_READS = 60000, COLD_READS = 6000, WRITES = 40000 };

static const char *LARGE = "large", *LOG = "log";
static uint64_t state = 0x9e3779b97f4a7c15;
static char *pool;
static size_t size;

static void must(int holds, const char *what) {
    if (!holds) {
        perror(what);
        exit(1);
    }
}

static uint64_t chance(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static void tell(const char *name, double amount, double begun) {
    printf("%s\t%.3f\n", name, amount / (seconds() - begun));
}

static void settle(void) { sync(); }

static void drop_caches(void) {
    settle();
    int file = open("/proc/sys/vm/drop_caches", O_WRONLY);
    must(file >= 0 && write(file, "3", 1) == 1, "drop_caches");
    close(file);
}

/* Random bytes that no two blocks of a file share: a pool, taken from another place each time. */
static const char *random_bytes(size_t count) { return pool + chance() % ((POOL - count) / 8) * 8; }

static int opened(const char *name, int flags) {
    int file = open(name, flags, 0600);
    must(file >= 0, name);
    return file;
}

static double mib(void) { return size / 1048576.0; }

static off_t some_page(void) { return chance() % (size / PAGE) * PAGE; }

static void part_write(void) {
    unlink(LARGE);
    settle();
    double begun = seconds();
    int file = opened(LARGE, O_WRONLY | O_CREAT | O_EXCL);
    for (size_t at = 0; at < size; at += BLOCK) must(write(file, random_bytes(BLOCK), BLOCK) == BLOCK, "write");
    must(close(file) == 0, "close");
    tell("close", mib(), begun);
    file = opened(LARGE, O_RDONLY);
    must(fsync(file) == 0, "fsync");
    tell("fsync", mib(), begun);
    close(file);
}

static void read_all(void) {
    static char block[BLOCK];
    int file = opened(LARGE, O_RDONLY);
    for (size_t at = 0; at < size; at += BLOCK) must(read(file, block, BLOCK) == BLOCK, "read");
    close(file);
}

static void part_read_warm(void) {
    read_all();
    settle();
    double begun = seconds();
    read_all();
    tell("rate", mib(), begun);
}

static void part_read_cold(void) {
    drop_caches();
    double begun = seconds();
    read_all();
    tell("rate", mib(), begun);
}

static void random_reads(int count) {
    static char page[PAGE];
    int file = opened(LARGE, O_RDONLY);
    double begun = seconds();
    for (int read = 0; read < count; read++) must(pread(file, page, PAGE, some_page()) == PAGE, "pread");
    tell("rate", count, begun);
    close(file);
}

static void part_random_warm(void) {
    read_all();
    settle();
    random_reads(WARM_READS);
}

static void part_random_cold(void) {
    drop_caches();
    random_reads(COLD_READS);
}

static void part_random_write(void) {
    settle();
    int file = opened(LARGE, O_RDWR);
    double begun = seconds();
    for (int write = 0; write < WRITES; write++)
        must(pwrite(file, random_bytes(PAGE), PAGE, some_page()) == PAGE, "pwrite");
    tell("buffered", WRITES, begun);
    must(fsync(file) == 0, "fsync");
    tell("fsync", WRITES, begun);
    close(file);
}

static char *mapped(int protection) {
    int file = opened(LARGE, O_RDWR);
    char *map = mmap(NULL, size, protection, MAP_SHARED, file, 0);
    must(map != MAP_FAILED, "mmap");
    close(file);
    return map;
}

static void part_map_read_cold(void) {
    drop_caches();
    double begun = seconds();
    char *map = mapped(PROT_READ);
    volatile uint64_t sum = 0;
    for (size_t at = 0; at < size; at += 64) sum += map[at];
    tell("rate", mib(), begun);
    munmap(map, size);
}

static void part_map_write(void) {
    read_all();
    settle();
    double begun = seconds();
    char *map = mapped(PROT_READ | PROT_WRITE);
    for (size_t at = 0; at < size; at += PAGE) memcpy(map + at, random_bytes(PAGE), PAGE);
    must(msync(map, size, MS_SYNC) == 0, "msync");
    tell("rate", mib(), begun);
    munmap(map, size);
}

static void part_append(void) {
    unlink(LOG);
    int file = opened(LOG, O_WRONLY | O_CREAT | O_EXCL | O_APPEND);
    settle();
    double begun = seconds();
    for (int append = 0; append < APPENDS; append++) {
        must(write(file, random_bytes(PAGE), PAGE) == PAGE, "append");
        must(fsync(file) == 0, "fsync");
    }
    tell("rate", APPENDS, begun);
    close(file);
}

static const char *small_name(int number) {
    static char name[64];
    snprintf(name, sizeof name, "small/file-%d", number);
    return name;
}

static void part_create(void) {
    must(mkdir("small", 0700) == 0, "small");
    settle();
    double begun = seconds();
    for (int number = 0; number < SMALL_FILES; number++) {
        int file = opened(small_name(number), O_WRONLY | O_CREAT | O_EXCL);
        must(write(file, random_bytes(SMALL), SMALL) == SMALL, "write");
        must(close(file) == 0, "close");
    }
    tell("rate", SMALL_FILES, begun);
}

static void look_at_all(void) {
    struct stat found;
    for (int number = 0; number < SMALL_FILES; number++)
        must(stat(small_name(number), &found) == 0 && found.st_size == SMALL, "stat");
}

static void part_stat(void) {
    drop_caches();
    double begun = seconds();
    look_at_all();
    tell("cold", SMALL_FILES, begun);
    begun = seconds();
    look_at_all();
    tell("warm", SMALL_FILES, begun);
}

static void part_small_read_cold(void) {
    static char contents[SMALL];
    drop_caches();
    double begun = seconds();
    for (int number = 0; number < SMALL_FILES; number++) {
        int file = opened(small_name(number), O_RDONLY);
        must(read(file, contents, SMALL) == SMALL, "read");
        close(file);
    }
    tell("rate", SMALL_FILES, begun);
}

static void part_unlink(void) {
    settle();
    double begun = seconds();
    for (int number = 0; number < SMALL_FILES; number++) must(unlink(small_name(number)) == 0, "unlink");
    tell("rate", SMALL_FILES, begun);
    must(rmdir("small") == 0, "small");
}

/* A byte to another process and one back: what every request to a file server costs at the least. No file system has a
 * part in it; it tells how soon this machine's idle processors wake up. */
static void part_wake(void) {
    enum { TIMES = 5000 };
    int there[2], back[2];
    char byte = 0;
    must(pipe(there) == 0 && pipe(back) == 0, "pipe");
    pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        close(there[1]);
        while (read(there[0], &byte, 1) == 1) must(write(back[1], &byte, 1) == 1, "answer");
        _exit(0);
    }
    double begun = seconds();
    for (int time = 0; time < TIMES; time++)
        must(write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1, "ask");
    tell("rate", TIMES, begun);
    close(there[1]);
    must(waitpid(child, NULL, 0) == child, "waitpid");
}

static void part_clear(void) {
    must(unlink(LARGE) == 0, "unlink");
    settle();
}

/* The program of the paper's Figure 4, as a subjob: a file of random data written and read in blocks of 8 KiB, changed at
 * places where no block begins, read at random, mapped. Prints a sum of all that it read. */
static void part_program(void) {
    static uint64_t block[BLOCK / 8];
    uint64_t sum = 0;
    int file = opened(LARGE, O_RDWR | O_CREAT | O_TRUNC);
    for (size_t at = 0; at < size; at += BLOCK) {
        for (size_t word = 0; word < BLOCK / 8; word++) block[word] = chance();
        must(write(file, block, BLOCK) == BLOCK, "write");
    }
    must(lseek(file, 0, SEEK_SET) == 0, "lseek");
    for (size_t at = 0; at < size; at += BLOCK) {
        must(read(file, block, BLOCK) == BLOCK, "read");
        for (size_t word = 0; word < BLOCK / 8; word += 16) sum += block[word];
    }
    enum { ODD = 2399, CHANGES = 200, LOOKS = 2000 };
    for (int change = 0; change < CHANGES; change++)
        must(pwrite(file, random_bytes(ODD), ODD, chance() % (size - ODD)) == ODD, "pwrite");
    for (int look = 0; look < LOOKS; look++) {
        must(pread(file, block, BLOCK, chance() % (size - BLOCK)) == BLOCK, "pread");
        sum ^= block[look % (BLOCK / 8)];
    }
    must(fsync(file) == 0, "fsync");
    close(file);
    char *map = mapped(PROT_READ);
    for (size_t at = 0; at < size; at += 8) sum = (sum ^ *(uint64_t *)(map + at)) * 0x100000001b3;
    munmap(map, size);
    must(unlink(LARGE) == 0, "unlink");
    printf("sum\t%llu\n", (unsigned long long)sum);
}

static const struct { const char *name; void (*run)(void); } PARTS[] = {
    {"write", part_write},           {"read-warm", part_read_warm},
    {"read-cold", part_read_cold},   {"random-read-warm", part_random_warm},
    {"random-read-cold", part_random_cold}, {"random-write", part_random_write},
    {"map-read-cold", part_map_read_cold},  {"map-write", part_map_write},
    {"append", part_append},         {"create", part_create},
    {"stat", part_stat},             {"small-read-cold", part_small_read_cold},
    {"unlink", part_unlink},         {"wake", part_wake},
    {"clear", part_clear},           {"program", part_program},
};

int main(int count, char **arguments) {
    must(count == 3, "driver PART MIB");
    size = strtoul(arguments[2], NULL, 10) << 20;
    must(size >= POOL, "at least 16 MiB");
    pool = malloc(POOL);
    must(pool != NULL, "memory");
    for (size_t at = 0; at < POOL; at += 8) *(uint64_t *)(pool + at) = chance();
    for (size_t part = 0; part < sizeof PARTS / sizeof *PARTS; part++) {
        if (strcmp(PARTS[part].name, arguments[1]) != 0) continue;
        PARTS[part].run();
        return 0;
    }
    fprintf(stderr, "no part '%s'\n", arguments[1]);
    return 1;
}
