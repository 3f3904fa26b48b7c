#!/bin/bash
# The same dockings one after the other, for comparison.
#
#   ./serial.sh [DATA [RESULT]]    default: data and serial, beside this script
set -euo pipefail

here=$(dirname "$0")
data=${1:-$here/data}
result=${2:-$here/serial}

mkdir -p "$result/poses"
for ligand in "$data"/ligands/*.pdbqt; do
    name=$(basename "$ligand" .pdbqt)
    for seed in 1 2; do
        pose=$result/poses/$name-$seed.pdbqt
        vina --receptor "$data/receptor.pdbqt" --ligand "$ligand" --out "$pose" \
            --center_x 11 --center_y 90.5 --center_z 57.5 --size_x 16 --size_y 16 --size_z 16 \
            --exhaustiveness 2 --num_modes 3 --cpu 1 --seed "$seed" >/dev/null
        awk -v OFS=, -v name="$name" -v seed="$seed" \
            '/^REMARK VINA RESULT/ { print name, seed, $4; exit }' "$pose"
    done
done | LC_ALL=C sort -t, -k3,3g -k1,1 -k2,2n | sed '1i ligand,seed,affinity' >"$result/affinities.csv"
