//! What `metrics socket` tells: numbers in, text out. Nothing here reads a counter, a clock or a socket.
//!
//! Every metric is a row of [`table::TABLE`], which the documentation, the dashboard and the alert rules are checked
//! against. A label is a name of the configuration or a word of [`crate::stats::labels`]: what a peer sends becomes none.

pub mod http;
pub mod numbers;
mod render;
pub mod table;
mod text;

pub use self::render::render;
