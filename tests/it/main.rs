//! End-to-end tests: the real program, real clients, real backends. One behaviour each; the name says which.
mod closing;
mod harness;
mod identity;
mod names;
mod proxy_in;
mod proxy_out;
mod relay;
mod resumption;
mod support;
