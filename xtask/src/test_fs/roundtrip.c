/* Compresses standard input, decompresses that, and writes it to standard output: by way of files that are mapped. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>

static void must(int holds, const char *what) {
    if (!holds) {
        perror(what);
        exit(1);
    }
}

static void *mapped(const char *name, size_t size) {
    int file = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    must(file >= 0 && ftruncate(file, size) == 0, name);
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    must(map != MAP_FAILED, name);
    close(file);
    return map;
}

int main(void) {
    enum { MOST = 64 << 20 };
    char *plain = mapped("roundtrip.plain", MOST);
    size_t size = fread(plain, 1, MOST, stdin);
    size_t bound = ZSTD_compressBound(size);
    char *packed = mapped("roundtrip.packed", bound);
    size_t length = ZSTD_compress(packed, bound, plain, size, 3);
    must(!ZSTD_isError(length) && length < size, "compress");
    char *again = mapped("roundtrip.again", size);
    must(ZSTD_decompress(again, size, packed, length) == size, "decompress");
    must(fwrite(again, 1, size, stdout) == size, "write");
    return 0;
}
