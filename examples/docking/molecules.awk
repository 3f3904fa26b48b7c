# Draws the molecules of molecules.txt with ideal bond lengths and angles, each into a PDBQT file below `directory`.
# Carbons stand for the hydrogens on them, as Vina wants it, and Vina reads no charges: all are 0.

function atom(name, type, x, y) {
    printf "ATOM  %5d %-4s LIG A   1    %8.3f%8.3f%8.3f  1.00  0.00     0.000 %-2s\n", ++atoms, name, x, y, 0, type > file
}

# An atom `distance` from (x, y) in the direction of `angle`, in degrees.
function bonded(name, type, x, y, distance, angle) {
    angle *= PI / 180
    atom(name, type, x + distance * cos(angle), y + distance * sin(angle))
}

# A ring of six around (x, y), its first atom in the direction of `first`.
function ring(elements, x, y, first,    i, element) {
    for (i = 0; i < 6; i++) {
        element = substr(elements, i + 1, 1)
        bonded(element (i + 1), element == "N" ? "NA" : "A", x, y, RADIUS, first + 60 * i)
    }
}

# What hangs on the ring's atom in the direction of `angle`; a bond that turns makes a branch.
function substituent(kind, angle,    x, y, at) {
    at = angle * PI / 180
    x = RADIUS * cos(at)
    y = RADIUS * sin(at)
    if (kind == "methyl") {
        bonded("C", "C", x, y, 1.51, angle)
    } else if (kind == "hydroxyl") {
        bonded("O", "OA", x, y, 1.36, angle)
        bonded("H", "HD", x + 1.36 * cos(at), y + 1.36 * sin(at), 0.96, angle + 71)
    } else if (kind == "amine") {
        bonded("N", "N", x, y, 1.40, angle)
        bonded("H", "HD", x + 1.40 * cos(at), y + 1.40 * sin(at), 1.01, angle + 60)
        bonded("H", "HD", x + 1.40 * cos(at), y + 1.40 * sin(at), 1.01, angle - 60)
    } else {
        print "molecules.txt: unknown group " kind > "/dev/stderr"
        exit 1
    }
}

function phenyl(position, angle,    at, away) {
    at = angle * PI / 180
    away = 2 * RADIUS + 1.48
    printf "BRANCH %3d %3d\n", position, atoms + 1 > file
    ring("CCCCCC", away * cos(at), away * sin(at), angle + 180)
    printf "ENDBRANCH %3d %3d\n", position, atoms - 5 > file
}

BEGIN {
    PI = atan2(0, -1)
    RADIUS = 1.39
}

/^#/ { next }

{
    file = directory "/" $1 ".pdbqt"
    atoms = 0
    branches = ""
    print "REMARK  " $1 > file
    print "ROOT" > file
    ring($2, 0, 0, 0)
    for (i = 3; i <= NF; i++) {
        split($i, part, ":")
        if (part[2] == "phenyl")
            branches = branches " " part[1]
        else
            substituent(part[2], 60 * (part[1] - 1))
    }
    print "ENDROOT" > file
    count = split(branches, position, " ")
    for (i = 1; i <= count; i++)
        phenyl(position[i], 60 * (position[i] - 1))
    print "TORSDOF " count > file
    close(file)
}
