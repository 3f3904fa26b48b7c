//! Node Manager: registry, liveness, black holes; pure.
