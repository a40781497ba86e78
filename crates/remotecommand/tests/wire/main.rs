//! Commands over both wires: between our own ends, through a proxy, and with real kubectl.

mod between_us;
mod over_tls;
mod raw_websocket;
mod serving;
mod with_kubectl;
