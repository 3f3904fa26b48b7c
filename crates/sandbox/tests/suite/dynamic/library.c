/* Shows that its code runs, by the name that it was compiled with. */
#include <unistd.h>

__attribute__((constructor)) static void run(void) {
    static const char text[] = "code of " NAME " runs\n";
    if (write(1, text, sizeof text - 1) < 0) _exit(1);
}

/* What makes it acceptable as an auditor of the loader. */
unsigned la_version(unsigned version) { return version; }
