"""What few programs use and no suite tries, on the file system of the current directory: extended attributes, files
without a name, locks between processes, holes, shared maps."""
import errno
import fcntl
import mmap
import os


def refused(number, call, *arguments, **options):
    try:
        call(*arguments, **options)
    except OSError as error:
        assert error.errno == number, f"{call.__name__}{arguments}: {error}"
    else:
        raise AssertionError(f"{call.__name__}{arguments} was not refused")


def in_child(act):
    """Runs it in a child and fails if it fails there."""
    child = os.fork()
    if child == 0:
        try:
            act()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child's {act.__name__} failed"


def new(name, contents=b""):
    file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(file, contents)
    return file


def extended_attributes():
    os.close(new("attributed"))
    os.setxattr("attributed", "user.one", b"1", os.XATTR_CREATE)
    refused(errno.EEXIST, os.setxattr, "attributed", "user.one", b"2", os.XATTR_CREATE)
    refused(errno.ENODATA, os.setxattr, "attributed", "user.two", b"2", os.XATTR_REPLACE)
    os.setxattr("attributed", "user.one", b"", os.XATTR_REPLACE)
    assert os.getxattr("attributed", "user.one") == b""
    large = os.urandom(3000)
    os.setxattr("attributed", "user.large", large)
    os.setxattr("attributed", "trusted.root", b"alone")
    assert sorted(os.listxattr("attributed")) == ["trusted.root", "user.large", "user.one"]
    os.link("attributed", "linked")
    assert os.getxattr("linked", "user.large") == large
    os.removexattr("linked", "user.one")
    refused(errno.ENODATA, os.getxattr, "attributed", "user.one")
    refused(errno.ENODATA, os.removexattr, "attributed", "user.one")
    os.rename("attributed", "renamed")
    assert os.getxattr("renamed", "user.large") == large
    os.mkdir("directory")
    os.setxattr("directory", "user.of", b"directory")
    assert os.listxattr("directory") == ["user.of"]
    os.symlink("nowhere", "symlink")
    refused(errno.EPERM, os.setxattr, "symlink", "user.of", b"symlink", follow_symlinks=False)
    refused(errno.EOPNOTSUPP, os.setxattr, "renamed", "nosuchclass.name", b"")


def files_without_a_name():
    before = os.listdir(".")
    file = os.open(".", os.O_RDWR | os.O_TMPFILE, 0o600)
    os.write(file, b"secret" * 10000)
    assert os.listdir(".") == before and os.fstat(file).st_nlink == 0
    # Only with a directory's number does Python follow the link.
    here = os.open(".", os.O_DIRECTORY)
    os.link(f"/proc/self/fd/{file}", "named", dst_dir_fd=here)
    assert os.fstat(file).st_nlink == 1
    os.close(file)
    with open("named", "rb") as again:
        assert again.read() == b"secret" * 10000
    exclusive = os.open(".", os.O_RDWR | os.O_TMPFILE | os.O_EXCL, 0o600)
    refused(errno.ENOENT, os.link, f"/proc/self/fd/{exclusive}", "never", dst_dir_fd=here)
    os.close(exclusive)
    os.close(here)


def locks_between_processes():
    file = new("locked", b"x" * 100)
    fcntl.lockf(file, fcntl.LOCK_EX, 10, 0)
    fcntl.flock(file, fcntl.LOCK_EX)

    def other():
        again = os.open("locked", os.O_RDWR)
        refused(errno.EAGAIN, fcntl.lockf, again, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 5)
        fcntl.lockf(again, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 10)
        refused(errno.EAGAIN, fcntl.flock, again, fcntl.LOCK_SH | fcntl.LOCK_NB)

    in_child(other)
    fcntl.lockf(file, fcntl.LOCK_UN, 10, 0)
    fcntl.flock(file, fcntl.LOCK_UN)
    # Closing it gives the child's own back: nothing is left of it.
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 100, 0)
    os.close(file)


def holes():
    file = new("sparse")
    os.pwrite(file, b"end", 50 << 20)
    assert os.fstat(file).st_size == (50 << 20) + 3
    assert os.fstat(file).st_blocks * 512 < 1 << 20
    assert os.pread(file, 3, 49 << 20) == bytes(3)
    start = os.lseek(file, 0, os.SEEK_DATA)
    assert start in (0, 50 << 20), start
    os.posix_fallocate(file, 0, 1 << 20)
    assert os.pread(file, 4096, 4096) == bytes(4096)
    assert os.copy_file_range(file, file, 3, 50 << 20, 60 << 20) == 3
    assert os.pread(file, 3, 60 << 20) == b"end"
    os.ftruncate(file, (50 << 20) + 1)
    os.ftruncate(file, 51 << 20)
    assert os.pread(file, 4, 50 << 20) == b"e\0\0\0"
    os.close(file)


def shared_maps():
    file = new("shared", bytes(1 << 20))
    here = mmap.mmap(file, 1 << 20)

    def other():
        with mmap.mmap(os.open("shared", os.O_RDWR), 1 << 20) as there:
            there[500_000:500_005] = b"hello"

    in_child(other)
    assert here[500_000:500_005] == b"hello"
    # A write is seen in the map, and the map in a read, without a word in between.
    os.pwrite(file, b"world", 4094)
    assert here[4094:4099] == b"world"
    here[8190:8194] = b"page"
    assert os.pread(file, 4, 8190) == b"page"
    private = mmap.mmap(file, 1 << 20, mmap.MAP_PRIVATE)
    private[0:3] = b"own"
    assert os.pread(file, 3, 0) == bytes(3)
    here.flush()
    os.unlink("shared")
    assert here[500_000:500_005] == b"hello"
    os.close(file)


TESTS = [extended_attributes, files_without_a_name, locks_between_processes, holes, shared_maps]
for test in TESTS:
    test()
print(", ".join(test.__name__.replace("_", " ") for test in TESTS))
