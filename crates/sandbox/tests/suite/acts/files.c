/* Files of the desktop, of the application and of the sandbox itself. */
#include "acts.h"

#include <dirent.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

/* The path of the host's secret behind a prefix. */
static int open_behind(const char *prefix) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s%s", prefix, from_host("HOST_SECRET"));
    return try_open(path, O_RDONLY);
}

ACT(read_secret) { return open_behind(""); }
ACT(read_secret_dots) { return open_behind("/work/../../../../../../../.."); }
ACT(read_secret_proc_root) { return open_behind("/proc/self/root"); }
ACT(read_secret_proc_cwd) { return open_behind("/proc/self/cwd/../../../.."); }
ACT(read_secret_portal_root) { return open_behind("/proc/1/root"); }
ACT(read_secret_portal_cwd) { return open_behind("/proc/1/cwd"); }
ACT(read_secret_parent_root) {
    char prefix[64];
    snprintf(prefix, sizeof prefix, "/proc/%d/root", getppid());
    return open_behind(prefix);
}
ACT(read_secret_by_link) {
    unlink("/work/link");
    if (symlink(from_host("HOST_SECRET"), "/work/link")) return errno;
    return try_open("/work/link", O_RDONLY);
}
ACT(read_secret_by_hard_link) { return result_of(link(from_host("HOST_SECRET"), "/work/hard")); }
ACT(read_secret_by_magic_fd) {
    int fd = open("/", O_PATH | O_DIRECTORY);
    char prefix[64];
    snprintf(prefix, sizeof prefix, "/proc/self/fd/%d/../../..", fd);
    return open_behind(prefix);
}
ACT(read_secret_by_descriptor) {
    int fd = open("/", O_RDONLY | O_DIRECTORY);
    char path[PATH_MAX];
    snprintf(path, sizeof path, "../../../..%s", from_host("HOST_SECRET"));
    return result_of(openat(fd, path, O_RDONLY));
}
ACT(read_secret_by_openat2) {
    struct open_how how = {.flags = O_RDONLY, .resolve = RESOLVE_IN_ROOT};
    return result_of(syscall(SYS_openat2, AT_FDCWD, from_host("HOST_SECRET"), &how, sizeof how));
}
ACT(read_secret_after_chdir_up) {
    for (int i = 0; i < 64; i++)
        if (chdir("..")) return errno;
    return try_open(from_host("HOST_SECRET") + 1, O_RDONLY);
}
ACT(list_host_directory) { return try_open(from_host("HOST_TREE"), O_RDONLY | O_DIRECTORY); }
ACT(read_shadow) { return try_open("/etc/shadow", O_RDONLY); }
ACT(list_home) { return try_open("/home", O_RDONLY | O_DIRECTORY); }
ACT(list_root_home) { return try_open("/root", O_RDONLY | O_DIRECTORY); }
ACT(read_machine_id) { return try_open("/etc/machine-id", O_RDONLY); }
ACT(list_var_lib) { return try_open("/var/lib", O_RDONLY | O_DIRECTORY); }
ACT(list_run) { return try_open("/run/systemd", O_RDONLY | O_DIRECTORY); }
ACT(list_block_devices) { return try_open("/sys/class/block", O_RDONLY | O_DIRECTORY); }
ACT(list_control_groups) { return try_open("/sys/fs/cgroup", O_RDONLY | O_DIRECTORY); }
ACT(list_kernel_settings) { return try_open("/sys/kernel", O_RDONLY | O_DIRECTORY); }
ACT(list_firmware) { return try_open("/sys/firmware", O_RDONLY | O_DIRECTORY); }
ACT(read_own_file) { return try_open("/etc/app.conf", O_RDONLY); }

/* Whether a text of /proc tells where things lie on the host. The mount of /work tells its own place. */
static int tells_host_path(const char *file) {
    static char text[1 << 20];
    int fd = open(file, O_RDONLY);
    if (fd < 0) return errno;
    size_t length = 0;
    for (ssize_t n; (n = read(fd, text + length, sizeof text - 1 - length)) > 0;) length += n;
    close(fd);
    text[length] = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (strstr(line, from_host("HOST_MARK")) && !strstr(line, " /work ")) return POSSIBLE;
    return ENOENT;
}

static int link_tells_host_path(const char *path) {
    char target[PATH_MAX] = {0};
    if (readlink(path, target, sizeof target - 1) < 0) return errno;
    return strstr(target, from_host("HOST_MARK")) ? POSSIBLE : ENOENT;
}

ACT(learn_place_from_mountinfo) { return tells_host_path("/proc/self/mountinfo"); }
ACT(learn_place_from_mounts) { return tells_host_path("/proc/self/mounts"); }
ACT(learn_place_from_mountstats) { return tells_host_path("/proc/self/mountstats"); }
ACT(learn_place_from_maps) { return tells_host_path("/proc/self/maps"); }
ACT(learn_place_from_control_groups) { return tells_host_path("/proc/self/cgroup"); }
ACT(learn_place_from_environment) { return tells_host_path("/proc/self/cmdline"); }
ACT(learn_place_from_exe) { return link_tells_host_path("/proc/self/exe"); }
ACT(learn_place_from_cwd) { return link_tells_host_path("/proc/self/cwd"); }
ACT(learn_place_from_root) { return link_tells_host_path("/proc/self/root"); }
ACT(learn_place_from_stdout) { return link_tells_host_path("/proc/self/fd/1"); }
ACT(read_own_mounts) { return try_open("/proc/self/mountinfo", O_RDONLY); }

/* The program's file and the application's files. */
ACT(write_own_program) { return try_open("/proc/self/exe", O_WRONLY); }
ACT(write_program_by_name) { return try_open("/usr/bin/act", O_RDWR); }
ACT(write_program_by_reopening) {
    int fd = open("/usr/bin/act", O_PATH);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return try_open(path, O_WRONLY);
}
ACT(write_program_after_exec) {
    /* As the overwriting of a container's runtime: wait until nobody executes the file any more. */
    int fd = open("/proc/self/exe", O_RDONLY);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    for (int i = 0; i < 1000; i++) {
        int result = try_open(path, O_WRONLY | O_TRUNC);
        if (result != ETXTBSY) return result;
    }
    return ETXTBSY;
}
ACT(truncate_program) { return result_of(truncate("/usr/bin/act", 0)); }
ACT(map_program_writable) {
    int fd = open("/usr/bin/act", O_RDONLY);
    void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return at == MAP_FAILED ? errno : POSSIBLE;
}
ACT(make_program_map_writable) {
    int fd = open("/usr/bin/act", O_RDONLY);
    void *at = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    return at == MAP_FAILED ? errno : result_of(mprotect(at, 4096, PROT_READ | PROT_WRITE));
}
ACT(map_program_readable) {
    int fd = open("/usr/bin/act", O_RDONLY);
    void *at = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    return at == MAP_FAILED ? errno : 0;
}
ACT(rename_over_program) {
    if (make_file("/work/other", "other", 0755)) return errno;
    return result_of(rename("/work/other", "/usr/bin/act"));
}
ACT(rename_program_away) { return result_of(rename("/usr/bin/act", "/usr/bin/gone")); }
ACT(exchange_program) {
    if (make_file("/work/other", "other", 0755)) return errno;
    return result_of(syscall(SYS_renameat2, AT_FDCWD, "/work/other", AT_FDCWD, "/usr/bin/act", 2));
}
ACT(unlink_program) { return result_of(unlink("/usr/bin/act")); }
ACT(chmod_program) { return result_of(chmod("/usr/bin/act", 0777)); }
ACT(chown_program) { return result_of(chown("/usr/bin/act", getuid(), getgid())); }
ACT(touch_program) { return result_of(utimensat(AT_FDCWD, "/usr/bin/act", NULL, 0)); }
ACT(label_program) { return result_of(setxattr("/usr/bin/act", "user.note", "x", 1, 0)); }
ACT(allocate_program) {
    int fd = open("/usr/bin/act", O_RDONLY);
    return result_of(fallocate(fd, 0, 0, 4096));
}
ACT(lease_program) {
    int fd = open("/usr/bin/act", O_RDONLY);
    return result_of(fcntl(fd, F_SETLEASE, F_WRLCK));
}
ACT(link_program_into_work) { return result_of(link("/usr/bin/act", "/work/linked")); }

/* A private copy, from which the program reads back what it wrote. */
static int write_and_read(const char *path) {
    char text[8] = {0};
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    if (fd < 0 || write(fd, "changed", 7) != 7 || pread(fd, text, 7, 0) != 7) return errno;
    return strcmp(text, "changed") ? EIO : 0;
}

ACT(write_work_file) { return write_and_read("/work/own"); }
ACT(write_scratch_file) { return write_and_read("/tmp/own"); }
ACT(add_to_system) { return write_and_read("/usr/share/open/new"); }
ACT(change_system_file) { return write_and_read("/usr/share/open/file"); }
ACT(delete_system_file) { return result_of(unlink("/usr/share/open/file")); }
ACT(rename_system_file) { return result_of(rename("/usr/share/open/file", "/usr/share/open/renamed")); }
ACT(chmod_system_file) { return result_of(chmod("/usr/share/open/file", 0400)); }
ACT(touch_system_file) { return result_of(utimensat(AT_FDCWD, "/usr/share/open/file", NULL, 0)); }
ACT(label_system_file) { return result_of(setxattr("/usr/share/open/file", "user.note", "x", 1, 0)); }
ACT(link_system_file) { return result_of(link("/usr/share/open/file", "/usr/share/open/second")); }
ACT(add_to_own) { return write_and_read("/data/open/new"); }
ACT(change_own_file) { return write_and_read("/data/open/file"); }
ACT(delete_own_file) { return result_of(unlink("/data/open/doomed")); }
ACT(rename_own_file) { return result_of(rename("/data/open/old", "/data/open/renamed")); }
ACT(chmod_own_file) { return result_of(chmod("/data/open/file", 0400)); }
ACT(touch_own_file) { return result_of(utimensat(AT_FDCWD, "/data/open/file", NULL, 0)); }
ACT(label_own_file) { return result_of(setxattr("/data/open/file", "user.note", "x", 1, 0)); }
ACT(link_own_file) { return result_of(link("/data/open/file", "/data/open/second")); }
ACT(replace_own_directory) {
    if (rename("/data/open/deep", "/data/open/away")) return errno;
    return result_of(symlink("/proc/1/root", "/data/open/deep"));
}
ACT(map_own_file_shared) {
    int fd = open("/data/open/mapped", O_RDWR);
    char *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || at == MAP_FAILED) return errno;
    at[0] = 'X';
    return result_of(msync(at, 4096, MS_SYNC));
}
ACT(write_own_file_opened_before) {
    /* Opened for reading, it is the host's file; once copied, the descriptor must not become a way to write that. */
    int before = open("/data/open/before", O_RDONLY);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", before);
    int after = open(path, O_RDWR);
    return after < 0 ? errno : result_of(write(after, "changed", 7));
}

/* Attributes by which an overlay can be led elsewhere. */
static int set_attribute(const char *path, const char *name, const char *value) {
    if (make_file(path, "", 0600)) return errno;
    return result_of(setxattr(path, name, value, strlen(value), 0));
}

ACT(redirect_overlay) { return set_attribute("/work/redirect", "trusted.overlay.redirect", "/etc"); }
ACT(label_metacopy) { return set_attribute("/work/metacopy", "trusted.overlay.metacopy", ""); }
ACT(label_capability) {
    /* cap_sys_admin, as setcap writes it. */
    static const char all[20] = {1, 0, 0, 2, 0, 0, 0x20, 0, 0, 0, 0x20, 0};
    if (make_file("/work/capable", "", 0700)) return errno;
    return result_of(setxattr("/work/capable", "security.capability", all, sizeof all, 0));
}
ACT(label_security) { return set_attribute("/work/secure", "security.apparmor", "unconfined"); }

/* Device files. */
static int make_device(const char *path, int mode, int major, int minor) {
    unlink(path);
    if (mknod(path, mode | 0600, makedev(major, minor))) return errno;
    return try_open(path, O_RDONLY);
}

ACT(make_block_device) { return make_device("/work/disk", S_IFBLK, 8, 0); }
ACT(make_memory_device) { return make_device("/tmp/mem", S_IFCHR, 1, 1); }
ACT(make_terminal_device) { return make_device("/work/tty", S_IFCHR, 4, 1); }
ACT(make_overlay_whiteout_into_device) { return make_device("/tmp/whiteout", S_IFCHR, 0, 0); }
ACT(make_fifo) {
    unlink("/work/fifo");
    return result_of(mkfifo("/work/fifo", 0600));
}
ACT(open_memory) { return try_open("/dev/mem", O_RDONLY); }
ACT(open_kernel_memory) { return try_open("/dev/kmem", O_RDONLY); }
ACT(open_port) { return try_open("/dev/port", O_RDONLY); }
ACT(open_disk) { return try_open("/dev/sda", O_RDONLY); }
ACT(open_virtual_disk) { return try_open("/dev/vda", O_RDONLY); }
ACT(open_uinput) { return try_open("/dev/uinput", O_WRONLY); }
ACT(open_input) { return try_open("/dev/input/event0", O_RDONLY); }
ACT(open_fuse) { return try_open("/dev/fuse", O_RDWR); }
ACT(open_kvm) { return try_open("/dev/kvm", O_RDWR); }
ACT(open_tun) { return try_open("/dev/net/tun", O_RDWR); }
ACT(open_userfaultfd) { return try_open("/dev/userfaultfd", O_RDWR); }
ACT(open_kernel_log) { return try_open("/dev/kmsg", O_RDONLY); }
ACT(open_camera) { return try_open("/dev/video0", O_RDONLY); }
ACT(open_sound) { return try_open("/dev/snd/timer", O_RDONLY); }
ACT(open_screen) { return try_open("/dev/fb0", O_RDWR); }
ACT(open_graphics) { return try_open("/dev/dri/card0", O_RDWR); }
ACT(open_loop_control) { return try_open("/dev/loop-control", O_RDWR); }
ACT(open_vsock) { return try_open("/dev/vsock", O_RDWR); }
ACT(open_watchdog) { return try_open("/dev/watchdog", O_WRONLY); }
ACT(open_rtc) { return try_open("/dev/rtc0", O_RDONLY); }
ACT(open_null) { return try_open("/dev/null", O_RDWR); }
ACT(make_file_in_dev) { return try_open("/dev/new", O_WRONLY | O_CREAT); }
ACT(make_file_in_proc) { return try_open("/proc/new", O_WRONLY | O_CREAT); }
ACT(make_file_in_sys) { return try_open("/sys/new", O_WRONLY | O_CREAT); }

/* Names and shapes that trip whoever clears up or measures. */
ACT(odd_names) {
    static const char *const names[] = {"/work/\n", "/work/-rf", "/work/ ", "/work/\xff\xfe", "/work/$(id)", "/work/;", "/work/..."};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (make_file(names[i], "", 0)) return errno;
    char longest[NAME_MAX + 8] = "/work/";
    memset(longest + 6, 'x', NAME_MAX);
    longest[6 + NAME_MAX] = 0;
    return make_file(longest, "", 0);
}
ACT(deep_directories) {
    for (int i = 0; i < 3000; i++)
        if (mkdir("d", 0700) || chdir("d")) return errno;
    return 0;
}
ACT(unreadable_directories) {
    if (mkdir("/work/dark", 0700) || make_file("/work/dark/file", "", 0)) return errno;
    return result_of(chmod("/work/dark", 0));
}
ACT(links_in_circles) {
    if (symlink("b", "/work/a") || symlink("a", "/work/b") || symlink("/", "/work/top")) return errno;
    return result_of(symlink("/proc/self/root/proc", "/work/proc"));
}
