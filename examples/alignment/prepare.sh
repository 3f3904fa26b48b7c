#!/bin/bash
# Makes the inputs: families of proteins that hmmer draws at random, from fixed seeds, out of its tutorial's profiles.
#
#   ./prepare.sh [DIRECTORY]    default: data, beside this script
set -euo pipefail

data=${1:-$(dirname "$0")/data}
tutorial=/usr/share/doc/hmmer/examples/tutorial

need() {
    [ -e "$1" ] || { echo "$1 is missing: apt-get install $2" >&2; exit 1; }
}
need "$(command -v mafft || echo mafft)" mafft
need "$(command -v hmmemit || echo hmmemit)" hmmer
need "$tutorial/globins4.hmm" hmmer-examples

mkdir -p "$data/families"
for profile in Pkinase fn3 globins4; do
    for seed in 1 2 3 4; do
        hmmemit -N 12 --seed "$seed" -o "$data/families/$profile-$seed.fasta" "$tutorial/$profile.hmm"
    done
done
