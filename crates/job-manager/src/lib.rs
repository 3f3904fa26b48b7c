//! Job Manager: decompose, progress, malformed jobs, aggregate; pure.

pub mod aggregate;
pub mod decompose;
#[cfg(test)]
mod fixtures;
