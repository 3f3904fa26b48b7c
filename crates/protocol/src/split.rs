//! Cuts an input file into runs of whole records (§2.1 step 3).
