#!/bin/bash
# The same runs one after the other, for comparison.
#
#   ./serial.sh [DATA [RESULT]]    default: data and serial, beside this script
set -euo pipefail

here=$(dirname "$0")
data=${1:-$here/data}
result=${2:-$here/serial}

mkdir -p "$result"
seed=20050611
{
    echo density,seed,spans,largest
    for density in 0.56 0.57 0.58 0.59 0.60 0.61 0.62; do
        for _ in {1..6}; do
            /usr/bin/python3 "$data/percolation.py" --density "$density" --seed "$seed" |
                awk -v OFS=, -v density="$density" -v seed="$seed" '{ found[$1] = $2 }
                    END { print density, seed, found["spans"], found["largest"] }'
            seed=$((seed + 1))
        done
    done
} >"$result/runs.csv"
