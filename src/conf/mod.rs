//! What the operator asked for: text in, [`model::Model`] out. Reads no file but the text it is given, opens no socket.

pub mod expr;
pub mod model;
