//! Job Manager: decompose, progress, malformed jobs, aggregate; pure.
