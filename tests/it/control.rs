//! Control sockets: who may connect, what may be asked, and that nothing a client does there harms the service.

mod connections;
mod ctl;
mod reload;
mod show;
mod sockets;
