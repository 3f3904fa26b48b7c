#!/bin/bash
# Makes the inputs: the protein of AutoDock Vina's test, and small molecules drawn by molecules.awk.
#
#   ./prepare.sh [DIRECTORY]    default: data, beside this script
set -euo pipefail

here=$(dirname "$0")
data=${1:-$here/data}
protein=/usr/share/doc/autodock-vina/test-data/protein.pdbqt.gz

need() {
    [ -e "$1" ] || { echo "$1 is missing: apt-get install $2" >&2; exit 1; }
}
need "$(command -v vina || echo vina)" autodock-vina
need "$protein" autodock-vina

mkdir -p "$data/ligands"
zcat "$protein" >"$data/receptor.pdbqt"
awk -v directory="$data/ligands" -f "$here/molecules.awk" "$here/molecules.txt"
