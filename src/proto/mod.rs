//! The decisions: no socket, no clock, no thread, no log.
