#!/bin/bash
# Installs the Debian packages that building, the demonstration or the tests need, and nothing when all are there.
#
#   scripts/install-needs.sh build|demo|test|test-fs|bench
#
# As root it installs what is missing; otherwise it prints the command that would and fails.
set -eu

# The bundled SQLite, zstd and ring are C: the crates need a compiler and the C library's headers.
build="gcc libc6-dev make"
# A protein search: the program, its example queries, and a database of sequences.
demo="$build hmmer hmmer-examples mmseqs2-examples"
# An invisible display, and programs with windows of three kinds: Tk, GTK, plain X.
windows="xvfb fonts-dejavu-core python3-tk zenity x11-utils"
# Programs that the tests make: C++ and Go, which start and fail in ways of their own.
compilers="g++ golang-go"
# Suites that try file systems; the first of the crates registry's needs ACLs.
files="git fio stress-ng libacl1-dev libpython3.11-testsuite"
# What sealed files are compared with.
others="gocryptfs securefs fuse3"
# Every kind of program the grid must run unmodified: dynamic, MPI, shell script, interpreter, virtual machine.
test="$demo $windows $compilers $files autodock-vina povray povray-includes lammps lammps-examples mafft openjdk-17-jre-headless python3"

case "${1:-}" in
build) wanted=$build ;;
demo) wanted=$demo ;;
test) wanted=$test ;;
test-fs) wanted="$build python3 $files" ;;
bench) wanted="$test $others" ;;
*)
    echo "usage: $0 build|demo|test|test-fs|bench" >&2
    exit 2
    ;;
esac

if ! command -v cargo >/dev/null; then
    echo "cargo is missing: install Rust 1.88 or newer (Debian 12's own is older)" >&2
    exit 1
fi

# Prints the packages among its arguments that are not installed.
missing() {
    local package
    for package in "$@"; do
        if [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
            printf '%s ' "$package"
        fi
    done
}

if ! command -v dpkg-query >/dev/null; then
    echo "this is no Debian: make sure that you have what these packages bring: $wanted" >&2
    exit 0
fi

# The lists are words, so they are split on purpose here and below.
# shellcheck disable=SC2086
lacking=$(missing $wanted)
if [ -z "$lacking" ]; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "missing packages; as root: apt-get install --no-install-recommends $lacking" >&2
    exit 1
fi

# Another installation may hold dpkg's lock: wait for it rather than fail.
apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -qq "$@"
}

echo "installing: $lacking"
# The lists of packages may be absent or too old to know where a package is today.
# shellcheck disable=SC2086
apt install --no-install-recommends -y $lacking </dev/null >/dev/null 2>&1 || {
    apt update </dev/null
    apt install --no-install-recommends -y $lacking </dev/null >/dev/null
}
