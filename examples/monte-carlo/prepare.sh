#!/bin/bash
# Puts the program where the job looks for it: it has no other input than its seeds.
#
#   ./prepare.sh [DIRECTORY]    default: data, beside this script
set -euo pipefail

here=$(dirname "$0")
data=${1:-$here/data}

[ -x /usr/bin/python3 ] || { echo "/usr/bin/python3 is missing: apt-get install python3" >&2; exit 1; }
mkdir -p "$data"
cp "$here/percolation.py" "$data/"
