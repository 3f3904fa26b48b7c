#!/bin/bash
# The same search in one run of hmmsearch, for comparison.
#
#   ./serial.sh [DATA [RESULT]]    default: data and serial, beside this script
set -euo pipefail

here=$(dirname "$0")
data=${1:-$here/data}
result=${2:-$here/serial}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

mkdir -p "$result"
hmmsearch --cpu 0 --max -Z "$(grep -c '^>' "$data/proteins.fasta")" --domZ 1000 --noali -o /dev/null \
    --tblout "$scratch/hits.tbl" --domtblout "$scratch/domains.tbl" "$data/profiles.hmm" "$data/proteins.fasta"

# A table without its last lines, which tell the command and the date. hmmsearch's own order is checked and stays but
# among hits whose E-value and score are printed alike: those are put in the order of the given keys.
table() {
    local name=$1 order=$2 ties=$3
    sed '/^[^#]/,$d' "$scratch/$name"
    grep -v '^#' "$scratch/$name" >"$scratch/rows"
    # The keys are words, so they are split on purpose.
    # shellcheck disable=SC2086
    LC_ALL=C sort --stable --check $order "$scratch/rows"
    # shellcheck disable=SC2086
    LC_ALL=C sort --stable $order $ties "$scratch/rows"
}
table hits.tbl '-k3,3 -k5,5g -k6,6gr' '-k1,1' >"$result/hits.tbl"
table domains.tbl '-k4,4 -k7,7g -k8,8gr' '-k1,1 -k10,10n' >"$result/domains.tbl"
