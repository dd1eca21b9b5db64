//! End-to-end tests: the real program, real clients, real backends. One behaviour each; the name says which.
mod broken;
mod closing;
mod faults;
mod harness;
mod hostile;
mod identity;
mod names;
mod process;
mod processes;
mod proxy_in;
mod proxy_out;
mod receivers;
mod relay;
mod reload;
mod resumption;
mod support;
mod tidy;
