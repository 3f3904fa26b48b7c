#!/bin/bash
# From nothing to the result of a protein search: builds dcgrid, starts a grid on this machine, searches 20,000 proteins
# in 40 subjobs, compares the result with a serial run's, and takes everything away again.
#
#   scripts/demo.sh
#
# KEEP=1 keeps the grid's state, the inputs and the results. DCGRID_BINARY is a binary to use in place of a new one.
set -euo pipefail
cd "$(dirname "$0")/.."

# Seconds that the grid may take to start.
patience=60

demo=$(mktemp -d "${TMPDIR:-/tmp}/dcgrid-demo.XXXXXX")
# The subjobs of root's grid run as users of their own, who must be able to pass through.
chmod 711 "$demo"
search=$demo/protein-search
grid=

say() {
    printf '\n== %s\n' "$*"
}

fail() {
    echo "demo: $*" >&2
    exit 1
}

# Asks the grid to stop, as ctrl-C would, and waits until it has.
stop_grid() {
    local id=$grid
    grid=
    kill -INT "$id"
    wait "$id"
}

clean_up() {
    local status=$?
    trap - EXIT
    trap '' INT TERM
    [ -z "$grid" ] || stop_grid || true
    # Not after ctrl-C: 128 and more is a signal.
    if [ "$status" -gt 0 ] && [ "$status" -lt 128 ] && [ -s "$demo/grid.log" ]; then
        echo "demo: the last of what the grid logged:" >&2
        tail -n 20 "$demo/grid.log" >&2
    fi
    if [ "${KEEP:-0}" = 1 ]; then
        echo "kept: $demo"
    else
        rm -rf "$demo"
    fi
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# What the grid of this process id has left on the machine: processes that were started from our directory or have
# something of it mounted, mounts, and control groups.
left_behind() {
    # Its pattern comes by standard input, or grep would find itself. What follows are files.
    # shellcheck disable=SC2062
    grep -lsF --file=- /proc/[0-9]*/cmdline /proc/[0-9]*/mountinfo <<<"${demo##*/}/" || true
    find /sys/fs/cgroup -type d -name "dcgrid-*-$1-*" 2>/dev/null || true
}

if [ -n "${DCGRID_BINARY:-}" ]; then
    dcgrid=$DCGRID_BINARY
else
    say "building dcgrid"
    cargo build --release --locked --package dcgrid
    dcgrid=${CARGO_TARGET_DIR:-target}/release/dcgrid
fi

say "preparing the search"
cp -r examples/protein-search "$search"
"$search/prepare.sh" "$search/data"
echo "$(grep -c '^NAME' "$search/data/profiles.hmm") profiles, $(grep -c '^>' "$search/data/proteins.fasta") proteins"

say "starting a grid on this machine"
# On port 0 the machine chooses one that is free. The pipe tells when the grid is ready, and stays open after that.
exec 3< <(exec "$dcgrid" up --state "$demo/state" --listen 127.0.0.1:0 2>"$demo/grid.log" </dev/null)
grid=$!
line=
until [[ $line == *ctrl-C* ]]; do
    IFS= read -r -t "$patience" -u 3 line || fail "the grid did not start"
    echo "$line"
done
export DCGRID_LOGIN=$demo/state/login.json

say "searching on the grid"
"$dcgrid" run "$search/job.toml" --dest "$demo/result"

say "searching serially, to compare"
"$search/serial.sh" "$search/data" "$demo/serial"
diff -r "$demo/serial" "$demo/result" || fail "the grid's result differs from the serial run's"

say "the best of $(grep -vc '^#' "$demo/result/hits.tbl") hits"
head -n 13 "$demo/result/hits.tbl" | cut -c 1-87
echo "both tables of the result are the serial run's, byte for byte"

say "stopping the grid"
id=$grid
stop_grid || fail "the grid did not end well"
left=$(left_behind "$id")
[ -z "$left" ] || fail "the grid left something behind: $left"
echo "nothing is left of it: no process, no mount, no control group"
