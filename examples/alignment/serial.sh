#!/bin/bash
# The same alignments one after the other, for comparison.
#
#   ./serial.sh [DATA [RESULT]]    default: data and serial, beside this script
set -euo pipefail

here=$(dirname "$0")
data=${1:-$here/data}
result=${2:-$here/serial}

mkdir -p "$result"
for family in "$data"/families/*.fasta; do
    mafft --localpair --maxiterate 100 --thread 1 --quiet "$family" >"$result/$(basename "$family")"
done
