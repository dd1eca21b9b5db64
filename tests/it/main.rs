//! End-to-end tests: the real program, real clients, real backends. One behaviour each; the name says which.
mod harness;
mod identity;
mod names;
mod resumption;
mod support;
