#!/bin/bash
# Makes the inputs: three profiles of hmmer's tutorial, and 20,000 proteins of UniProt.
#
#   ./prepare.sh [DIRECTORY]    default: data, beside this script
set -euo pipefail

data=${1:-$(dirname "$0")/data}
tutorial=/usr/share/doc/hmmer/examples/tutorial
proteins=/usr/share/doc/mmseqs2/example-data/DB.fasta.gz

need() {
    [ -e "$1" ] || { echo "$1 is missing: apt-get install $2" >&2; exit 1; }
}
need "$(command -v hmmsearch || echo hmmsearch)" hmmer
need "$tutorial/globins4.hmm" hmmer-examples
need "$proteins" mmseqs2-examples

mkdir -p "$data"
# In the order of their names, which is the order in which the aggregate sorts them.
cat "$tutorial/Pkinase.hmm" "$tutorial/fn3.hmm" "$tutorial/globins4.hmm" >"$data/profiles.hmm"
# Named by the accession alone: of sp|P03949|ABL1_CAEEL that is P03949. hmmsearch makes its first column as wide as
# the longest name of a table but never narrower than 20 characters, so the tables of all parts are alike.
zcat "$proteins" | sed 's/^>[a-z]*|\([^|]*\)|[^ ]*/>\1/' >"$data/proteins.fasta"
