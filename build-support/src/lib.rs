//! Turns the manifest of a traced PyTorch model into typed Candle source.

pub mod checkpoint;
pub mod config;
pub mod manifest;
pub mod raw;
pub mod report;
