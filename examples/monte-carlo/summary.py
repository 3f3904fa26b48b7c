"""For each density in the table that is its argument: the share of lattices that are spanned, with its standard error,
and the mean size of the largest cluster."""

import csv
import math
import sys


def main():
    runs = {}
    with open(sys.argv[1], newline="") as table:
        for row in csv.DictReader(table):
            runs.setdefault(row["density"], []).append((int(row["spans"]), float(row["largest"])))
    print("density,runs,spanned,error,largest")
    for density, found in runs.items():
        spanned = sum(spans for spans, _ in found) / len(found)
        error = math.sqrt(spanned * (1 - spanned) / len(found))
        largest = math.fsum(largest for _, largest in found) / len(found)
        print(f"{density},{len(found)},{spanned:.3f},{error:.3f},{largest:.4f}")


if __name__ == "__main__":
    main()
