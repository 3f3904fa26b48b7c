"""Site percolation on a square lattice: is there a path of open sites from the top to the bottom?

Prints whether there is one, and the share of all sites that the largest cluster has. The same seed gives the same
lattice on any machine.
"""

import argparse
import random


def clusters(lattice, size):
    """The roots of all open sites, after joining each site to its open neighbors above and to the left."""
    parent = list(range(size * size))

    def root(site):
        while parent[site] != site:
            parent[site] = parent[parent[site]]
            site = parent[site]
        return site

    for site in range(size * size):
        if not lattice[site]:
            continue
        if site >= size and lattice[site - size]:
            parent[root(site)] = root(site - size)
        if site % size and lattice[site - 1]:
            parent[root(site)] = root(site - 1)
    return {site: root(site) for site in range(size * size) if lattice[site]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=200, help="sites in a row")
    parser.add_argument("--density", type=float, required=True, help="probability that a site is open")
    parser.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()

    size = arguments.size
    chance = random.Random(arguments.seed)
    lattice = [chance.random() < arguments.density for _ in range(size * size)]
    roots = clusters(lattice, size)
    top = {roots[site] for site in range(size) if site in roots}
    bottom = {roots[site] for site in range(size * (size - 1), size * size) if site in roots}
    sizes = {}
    for cluster in roots.values():
        sizes[cluster] = sizes.get(cluster, 0) + 1
    print("spans", int(bool(top & bottom)))
    print("largest", max(sizes.values(), default=0) / (size * size))


if __name__ == "__main__":
    main()
