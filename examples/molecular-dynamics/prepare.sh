#!/bin/bash
# Makes the inputs: the peptide of LAMMPS's examples, with its temperature made a variable.
#
#   ./prepare.sh [DIRECTORY]    default: data, beside this script
set -euo pipefail

data=${1:-$(dirname "$0")/data}
example=/usr/share/lammps/examples/peptide

need() {
    [ -e "$1" ] || { echo "$1 is missing: apt-get install $2" >&2; exit 1; }
}
need "$(command -v lmp || echo lmp)" lammps
need "$example/in.peptide" lammps-examples

mkdir -p "$data"
cp "$example/data.peptide" "$data/"
# One line per 10 steps in place of LAMMPS's block of several lines, and a run short enough to watch.
# The variable is one of LAMMPS.
# shellcheck disable=SC2016
sed -e 's/temp 275\.0 275\.0/temp ${temperature} ${temperature}/' \
    -e 's/^thermo_style.*/thermo_style custom step temp press pe etotal/' \
    -e 's/^thermo[[:blank:]].*/thermo 10/' \
    -e 's/^run[[:blank:]].*/run 100/' \
    "$example/in.peptide" >"$data/in.peptide"
# Another version of the example would pass the edits unchanged, and all temperatures would be one.
# shellcheck disable=SC2016
grep -q '${temperature} ${temperature}' "$data/in.peptide"
