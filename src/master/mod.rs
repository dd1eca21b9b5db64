//! The privileged process.
pub mod material;
pub mod listeners;
