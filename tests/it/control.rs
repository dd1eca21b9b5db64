//! Control sockets: who may connect, what may be asked, and that nothing a client does there harms the service.

mod sockets;
