/* Ways to run code that nobody registered: from files, and from memory. */
#include "acts.h"

#include <linux/memfd.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/uio.h>

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_GET_MDWE 66
#endif

/* mov eax, 42; ret */
static const unsigned char CODE[] = {0xb8, 42, 0, 0, 0, 0xc3};

/* Runs what should be the code above; 0 when it was. */
static int run(void *at) { return ((int (*)(void))at)() == 42 ? POSSIBLE : EIO; }

static int execute_copy(const char *path) {
    int failed = copy_self(path);
    return failed ? failed : execute(path);
}

ACT(exec_registered) { return execute("/usr/bin/act"); }
ACT(exec_written_in_work) { return execute_copy("/work/copy"); }
ACT(exec_written_in_tmp) { return execute_copy("/tmp/copy"); }
ACT(exec_written_in_home) { return execute_copy("/tmp/home/copy"); }
ACT(exec_written_in_shm) { return execute_copy("/dev/shm/copy"); }
ACT(exec_written_in_system) { return execute_copy("/usr/share/open/copy"); }
ACT(exec_written_in_own) { return execute_copy("/data/open/copy"); }
ACT(exec_unregistered) { return execute("/usr/share/open/unregistered"); }
ACT(exec_unregistered_of_own) { return execute("/data/open/unregistered"); }
ACT(exec_python) { return execute("/usr/bin/python3"); }
ACT(exec_shell) { return execute("/bin/sh"); }
ACT(exec_data) { return execute("/etc/app.conf"); }
ACT(exec_script) {
    int failed = make_file("/work/script", "#!/usr/bin/act\n", 0755);
    return failed ? failed : execute("/work/script");
}
ACT(exec_renamed) {
    int failed = copy_self("/work/a");
    return failed || rename("/work/a", "/work/b") ? errno : execute("/work/b");
}
ACT(exec_by_link) {
    int failed = copy_self("/work/target");
    unlink("/tmp/to-target");
    return failed || symlink("/work/target", "/tmp/to-target") ? errno : execute("/tmp/to-target");
}
ACT(exec_temporary_file) {
    int fd = open("/work", O_TMPFILE | O_RDWR, 0700);
    char from[64], *const args[] = {"act", "nothing", NULL};
    snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    int self = open("/proc/self/exe", O_RDONLY);
    char buffer[1 << 16];
    for (ssize_t n; (n = read(self, buffer, sizeof buffer)) > 0;)
        if (write(fd, buffer, n) != n) return errno;
    linkat(AT_FDCWD, from, AT_FDCWD, "/work/appeared", AT_SYMLINK_FOLLOW);
    close(fd);
    execve("/work/appeared", args, environ);
    return errno;
}
ACT(exec_by_proc_fd) {
    int failed = copy_self("/work/by-fd");
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", open("/work/by-fd", O_RDONLY));
    return failed ? failed : execute(path);
}
ACT(exec_by_descriptor) {
    int failed = copy_self("/work/by-descriptor");
    char *const args[] = {"act", "nothing", NULL};
    int fd = open("/work/by-descriptor", O_PATH);
    if (failed) return failed;
    return result_of(syscall(SYS_execveat, fd, "", args, environ, AT_EMPTY_PATH));
}
ACT(exec_relative_to_descriptor) {
    int failed = copy_self("/work/relative");
    char *const args[] = {"act", "nothing", NULL};
    int fd = open("/work", O_PATH | O_DIRECTORY);
    if (failed) return failed;
    return result_of(syscall(SYS_execveat, fd, "relative", args, environ, 0));
}
ACT(exec_in_vforked_child) {
    int failed = copy_self("/work/vforked");
    if (failed) return failed;
    int status;
    char *const args[] = {"act", "nothing", NULL};
    pid_t pid = vfork();
    if (pid == 0) {
        execve("/work/vforked", args, environ);
        _exit(errno);
    }
    waitpid(pid, &status, 0);
    return WEXITSTATUS(status);
}

/* A file without a name that holds this program. */
static int memory_program(void) {
    int fd = syscall(SYS_memfd_create, "program", 0);
    if (fd < 0) return -errno;
    int self = open("/proc/self/exe", O_RDONLY);
    char buffer[1 << 16];
    for (ssize_t n; (n = read(self, buffer, sizeof buffer)) > 0;)
        if (write(fd, buffer, n) != n) return -errno;
    return fd;
}

ACT(exec_memory_file) {
    int fd = memory_program();
    char *const args[] = {"act", "nothing", NULL};
    if (fd < 0) return -fd;
    return result_of(syscall(SYS_execveat, fd, "", args, environ, AT_EMPTY_PATH));
}
ACT(exec_memory_file_by_proc) {
    int fd = memory_program();
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return fd < 0 ? -fd : execute(path);
}
ACT(exec_sealed_memory_file) {
    int fd = syscall(SYS_memfd_create, "program", MFD_ALLOW_SEALING | 0x10 /* MFD_EXEC */);
    return result_of(fd);
}

/* Two views of one memory file, one to write and one to run. */
static int run_second_view(int fd) {
    if (fd < 0 || ftruncate(fd, 4096)) return errno;
    unsigned char *view = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (view == MAP_FAILED) return errno;
    memcpy(view, CODE, sizeof CODE);
    void *code = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    if (code == MAP_FAILED) return errno;
    return run(code);
}

ACT(run_memory_file) { return run_second_view(syscall(SYS_memfd_create, "code", 0)); }
ACT(run_work_file) { return run_second_view(open("/work/code", O_RDWR | O_CREAT, 0700)); }
ACT(run_tmp_file) { return run_second_view(open("/tmp/code", O_RDWR | O_CREAT, 0700)); }
ACT(run_shm_file) { return run_second_view(open("/dev/shm/code", O_RDWR | O_CREAT, 0700)); }
ACT(run_own_file) { return run_second_view(open("/data/open/code", O_RDWR | O_CREAT, 0700)); }
ACT(run_system_file) { return run_second_view(open("/usr/share/open/code", O_RDWR | O_CREAT, 0700)); }
ACT(run_unnamed_file) { return run_second_view(open("/tmp", O_TMPFILE | O_RDWR, 0700)); }
ACT(run_private_file) {
    int fd = open("/work/private", O_RDWR | O_CREAT, 0700);
    if (write(fd, CODE, sizeof CODE) < 0 || ftruncate(fd, 4096)) return errno;
    void *code = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    return code == MAP_FAILED ? errno : run(code);
}
ACT(run_file_made_executable) {
    int fd = open("/work/later", O_RDWR | O_CREAT, 0700);
    if (write(fd, CODE, sizeof CODE) < 0 || ftruncate(fd, 4096)) return errno;
    void *code = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    if (code == MAP_FAILED || mprotect(code, 4096, PROT_READ | PROT_EXEC)) return errno;
    return run(code);
}
ACT(run_shared_segment) {
    int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0700);
    if (id < 0) return errno;
    void *view = shmat(id, NULL, 0), *code = shmat(id, NULL, SHM_EXEC);
    shmctl(id, IPC_RMID, NULL);
    if (code == (void *)-1) return errno;
    memcpy(view, CODE, sizeof CODE);
    return run(code);
}
ACT(run_shared_segment_made_executable) {
    int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0700);
    if (id < 0) return errno;
    void *view = shmat(id, NULL, 0);
    shmctl(id, IPC_RMID, NULL);
    memcpy(view, CODE, sizeof CODE);
    return mprotect(view, 4096, PROT_READ | PROT_EXEC) ? errno : run(view);
}
ACT(run_zero_device) {
    int fd = open("/dev/zero", O_RDWR);
    void *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE, fd, 0);
    if (code == MAP_FAILED) return errno;
    memcpy(code, CODE, sizeof CODE);
    return run(code);
}

static void *anonymous(int protection, int flags) {
    return mmap(NULL, 4096, protection, MAP_ANONYMOUS | flags, -1, 0);
}

ACT(run_writable_memory) {
    void *code = anonymous(PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE);
    if (code == MAP_FAILED) return errno;
    memcpy(code, CODE, sizeof CODE);
    return run(code);
}
ACT(run_memory_made_executable) {
    void *code = anonymous(PROT_READ | PROT_WRITE, MAP_PRIVATE);
    if (code == MAP_FAILED) return errno;
    memcpy(code, CODE, sizeof CODE);
    return mprotect(code, 4096, PROT_READ | PROT_EXEC) ? errno : run(code);
}
ACT(run_shared_memory_made_executable) {
    void *code = anonymous(PROT_READ | PROT_WRITE, MAP_SHARED);
    if (code == MAP_FAILED) return errno;
    memcpy(code, CODE, sizeof CODE);
    return mprotect(code, 4096, PROT_READ | PROT_EXEC) ? errno : run(code);
}
ACT(write_executable_memory_later) {
    void *code = anonymous(PROT_READ | PROT_EXEC, MAP_PRIVATE);
    if (code == MAP_FAILED) return errno;
    if (mprotect(code, 4096, PROT_READ | PROT_WRITE)) return errno;
    memcpy(code, CODE, sizeof CODE);
    return mprotect(code, 4096, PROT_READ | PROT_EXEC) ? errno : run(code);
}
ACT(write_own_text) {
    char *page = (char *)((unsigned long)&run & ~4095UL);
    if (mprotect(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC)) return errno;
    return POSSIBLE;
}
ACT(copy_text_and_change_it) {
    int fd = open("/usr/bin/act", O_RDONLY);
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (page == MAP_FAILED) return errno;
    memcpy(page, CODE, sizeof CODE);
    return mprotect(page, 4096, PROT_READ | PROT_EXEC) ? errno : run(page);
}
ACT(text_made_writable_and_back) {
    int fd = open("/usr/bin/act", O_RDONLY);
    char *page = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    if (page == MAP_FAILED) return errno;
    if (mprotect(page, 4096, PROT_READ | PROT_WRITE)) return errno;
    memcpy(page, CODE, sizeof CODE);
    return mprotect(page, 4096, PROT_READ | PROT_EXEC) ? errno : run(page);
}
ACT(run_heap) {
    char *heap = sbrk(8192);
    char *page = (char *)(((unsigned long)heap + 4095) & ~4095UL);
    memcpy(page, CODE, sizeof CODE);
    return mprotect(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC) ? errno : run(page);
}
ACT(run_stack) {
    unsigned char code[64];
    memcpy(code, CODE, sizeof CODE);
    char *page = (char *)((unsigned long)code & ~4095UL);
    return mprotect(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC | PROT_GROWSDOWN) ? errno : run(code);
}
ACT(run_memory_with_key) {
    void *code = anonymous(PROT_READ | PROT_WRITE, MAP_PRIVATE);
    memcpy(code, CODE, sizeof CODE);
    return syscall(SYS_pkey_mprotect, code, 4096, PROT_READ | PROT_EXEC, -1) ? errno : run(code);
}
ACT(run_memory_in_child) { return in_child(act_run_memory_made_executable); }
ACT(lift_write_xor_execute) {
    if (prctl(PR_GET_MDWE, 0, 0, 0, 0) == 0) return POSSIBLE;
    return result_of(prctl(PR_SET_MDWE, 0, 0, 0, 0));
}
ACT(readable_implies_executable) {
    if (personality(READ_IMPLIES_EXEC) < 0) return errno;
    void *code = anonymous(PROT_READ | PROT_WRITE, MAP_PRIVATE);
    memcpy(code, CODE, sizeof CODE);
    return run(code);
}
ACT(change_memory_protection) {
    void *memory = anonymous(PROT_READ | PROT_WRITE, MAP_PRIVATE);
    if (memory == MAP_FAILED || mprotect(memory, 4096, PROT_READ)) return errno;
    return result_of(mprotect(memory, 4096, PROT_READ | PROT_WRITE));
}

/* Around the protection of pages. */
static int poke_by_file(const char *path) {
    void *text = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, open("/usr/bin/act", O_RDONLY), 0);
    if (text == MAP_FAILED) return errno;
    int fd = open(path, O_RDWR);
    if (fd < 0 || pwrite(fd, CODE, sizeof CODE, (off_t)text) < 0) return errno;
    return run(text);
}
ACT(write_text_by_proc) { return poke_by_file("/proc/self/mem"); }
ACT(write_text_by_thread) { return poke_by_file("/proc/thread-self/mem"); }
ACT(write_child_by_proc) {
    pid_t pid = fork();
    if (pid == 0) for (;;) pause();
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    int fd = open(path, O_RDWR);
    int result = fd < 0 ? errno : result_of(pwrite(fd, CODE, sizeof CODE, (off_t)&run));
    kill(pid, SIGKILL);
    return result;
}
ACT(write_text_by_call) {
    struct iovec from = {(void *)CODE, sizeof CODE}, to = {(void *)&run, sizeof CODE};
    return result_of(syscall(SYS_process_vm_writev, getpid(), &from, 1, &to, 1, 0));
}
ACT(write_child_by_trace) {
    pid_t pid = fork();
    if (pid == 0) for (;;) pause();
    int result = result_of(ptrace(PTRACE_ATTACH, pid, NULL, NULL));
    kill(pid, SIGKILL);
    return result;
}
ACT(be_traced) { return result_of(ptrace(PTRACE_TRACEME, 0, NULL, NULL)); }
ACT(read_own_memory_by_proc) {
    char byte;
    int fd = open("/proc/self/mem", O_RDONLY);
    return fd < 0 ? errno : result_of(pread(fd, &byte, 1, (off_t)CODE));
}
ACT(replace_program_file) {
    int fd = open("/work/own", O_RDONLY | O_CREAT, 0700);
    return result_of(prctl(PR_SET_MM, 13 /* PR_SET_MM_EXE_FILE */, fd, 0, 0));
}
ACT(be_privileged_by_setuid) {
    /* Executes a set-user-id copy, which reports whether it gained anything. */
    char *const args[] = {"act", "has_gained", NULL};
    execve("/usr/bin/act-setuid", args, environ);
    return errno;
}
ACT(be_privileged_by_setgid) {
    char *const args[] = {"act", "has_gained", NULL};
    execve("/usr/bin/act-setgid", args, environ);
    return errno;
}
ACT(has_gained) {
    uid_t real, effective, saved;
    getresuid(&real, &effective, &saved);
    if (effective != real || saved != real || getegid() != getgid()) return POSSIBLE;
    return EPERM;
}
ACT(make_setuid_file) {
    int failed = copy_self("/work/setuid");
    return failed ? failed : result_of(chmod("/work/setuid", 06755));
}
