#!/bin/bash
# The same animation in one run of POV-Ray, for comparison.
#
#   ./serial.sh [DATA [RESULT]]    default: data and serial, beside this script
set -euo pipefail

here=$(dirname "$0")
data=${1:-$here/data}
result=${2:-$here/serial}

mkdir -p "$result"
povray +I"$data/scene.pov" +O"$result/frame.png" +FN +W320 +H240 +A0.3 -J +WT1 -D +KFI0 +KFF23 +KI0 +KF1 +KC 2>"$result/log" || {
    cat "$result/log" >&2
    exit 1
}
rm "$result/log"
