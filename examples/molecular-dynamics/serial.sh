#!/bin/bash
# The same simulations one after the other, for comparison.
#
#   ./serial.sh [DATA [RESULT]]    default: data and serial, beside this script
set -euo pipefail

here=$(dirname "$0")
data=${1:-$here/data}
mkdir -p "${2:-$here/serial}"
result=$(realpath "${2:-$here/serial}")

export OMP_NUM_THREADS=1
cd "$data"
# The rows between the heading and the end; those of four fields are statistics of the bonds that are kept rigid.
{
    echo temperature,step,measured,pressure,potential,total
    for temperature in 240 250 260 270 280 290 300 310; do
        lmp -in in.peptide -var temperature "$temperature" -log none |
            awk -v OFS=, -v temperature="$temperature" '/^Loop time/ { table = 0 }
                table && NF == 5 { print temperature, $1, $2, $3, $4, $5 }
                $1 == "Step" { table = 1 }'
    done
} >"$result/thermo.csv"
