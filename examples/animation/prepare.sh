#!/bin/bash
# Puts the scene where the job looks for it, and checks that what it includes is installed.
#
#   ./prepare.sh [DIRECTORY]    default: data, beside this script
set -euo pipefail

here=$(dirname "$0")
data=${1:-$here/data}

need() {
    [ -e "$1" ] || { echo "$1 is missing: apt-get install $2" >&2; exit 1; }
}
need "$(command -v povray || echo povray)" povray
need /usr/share/povray-3.7/include/textures.inc povray-includes

mkdir -p "$data"
cp "$here/scene.pov" "$data/"
