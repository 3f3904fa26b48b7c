//! The shell around the three layers: event loop, store, files, HTTP.

pub mod files;
