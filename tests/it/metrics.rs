//! `metrics socket`: what it tells after things that are known to have happened, and who may ask.

mod counts;
mod files;
mod http;
mod shipped;
