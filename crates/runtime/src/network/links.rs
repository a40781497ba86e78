//! Interfaces over netlink.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::path::Path;

use futures::TryStreamExt;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{
    Error, Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    new_connection,
};

use super::{Network, NetworkError, forwarding, mac, system};

/// The interface's name inside of pods.
const INSIDE: &str = "eth0";

fn netlink(action: impl Into<String>) -> impl FnOnce(Error) -> NetworkError {
    let action = action.into();
    move |source| NetworkError::Netlink {
        action,
        source: Box::new(source),
    }
}

/// A conversation with the kernel about the network namespace of the calling thread.
struct Netlink {
    handle: Handle,
    connection: tokio::task::JoinHandle<()>,
}

impl Netlink {
    fn open() -> io::Result<Self> {
        let (connection, handle, _) = new_connection()?;
        Ok(Self {
            handle,
            connection: tokio::spawn(connection),
        })
    }

    async fn index(&self, name: &str) -> Result<Option<LinkMessage>, Error> {
        match self.handle.link().get().match_name(name).execute().try_next().await {
            Err(error) if is(&error, nix::libc::ENODEV) => Ok(None),
            found => found,
        }
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn is(error: &Error, errno: i32) -> bool {
    matches!(error, Error::NetlinkError(message) if message.raw_code() == -errno)
}

fn unless(errno: i32) -> impl FnOnce(Error) -> Result<(), Error> {
    move |error| if is(&error, errno) { Ok(()) } else { Err(error) }
}

/// Makes the bridge, gives it the gateway's address and turns it on; what is there already stays.
pub(super) async fn make_bridge(network: &Network) -> Result<(), NetworkError> {
    let netlink_ = Netlink::open().map_err(system("open netlink"))?;
    let (handle, name) = (&netlink_.handle, network.bridge.as_str());
    let fail = |what: &str| netlink(format!("{what} the bridge {name}"));
    // A bridge without an address of its own changes it with its first port, and neighbours would be misled.
    let message = LinkBridge::new(name).address(mac(&network.ranges.gateways())).build();
    let made = handle.link().add(message).execute().await;
    made.or_else(unless(nix::libc::EEXIST)).map_err(fail("make"))?;
    let link = netlink_.index(name).await.map_err(fail("find"))?;
    let index = link
        .ok_or_else(|| system(format!("find the bridge {name}"))(io::ErrorKind::NotFound.into()))?
        .header
        .index;
    if network.ranges.six().is_some() {
        forwarding::ready_bridge(name)?;
    }
    for (gateway, range) in network.ranges.gateways().into_iter().zip(network.ranges.iter()) {
        let added = add_address(handle, index, gateway, range.prefix_len()).await;
        added
            .or_else(unless(nix::libc::EEXIST))
            .map_err(fail("give an address to"))?;
    }
    let up = LinkUnspec::new_with_index(index).up().build();
    handle.link().set(up).execute().await.map_err(fail("turn on"))
}

/// Adds an address that can be used at once: nobody else can have it, so there is nobody to ask first.
async fn add_address(handle: &Handle, index: u32, address: IpAddr, prefix: u8) -> Result<(), Error> {
    let mut add = handle.address().add(index, address, prefix);
    if address.is_ipv6() {
        add.message_mut().header.flags |= AddressHeaderFlags::Nodad;
    }
    add.execute().await
}

/// Makes a veth pair with one end on the bridge and the other in the namespace.
pub(super) async fn make_pair(
    network: &Network,
    host_end: &str,
    namespace: &Path,
    addresses: &[IpAddr],
) -> Result<(), NetworkError> {
    let netlink_ = Netlink::open().map_err(system("open netlink"))?;
    let bridge = netlink_
        .index(&network.bridge)
        .await
        .map_err(netlink(format!("find the bridge {}", network.bridge)))?;
    let missing = || system(format!("find the bridge {}", network.bridge))(io::ErrorKind::NotFound.into());
    let bridge = bridge.ok_or_else(missing)?.header.index;
    let namespace = File::open(namespace).map_err(system(format!("open {}", namespace.display())))?;
    let inside = LinkMessageBuilder::<LinkUnspec>::new()
        .name(INSIDE)
        .address(mac(addresses))
        .setns_by_fd(namespace.as_raw_fd())
        .build();
    let pair = LinkVeth::new(host_end, INSIDE)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(inside)))
        .controller(bridge)
        .up()
        .build();
    let made = netlink_.handle.link().add(pair).execute().await;
    let fail = || netlink(format!("connect {host_end} to the bridge {}", network.bridge));
    made.map_err(fail())?;
    let link = netlink_.index(host_end).await.map_err(fail())?;
    let index = link
        .ok_or_else(|| system(format!("find {host_end}"))(io::ErrorKind::NotFound.into()))?
        .header
        .index;
    // What a pod sends to itself by a Service's address comes back where it came from. The gateway would send it there,
    // but where the kernel shows bridged packets to its filter (bridge-nf-call-iptables), the bridge itself does.
    let port = LinkBridgePort::new(index).hairpin(true).build();
    netlink_.handle.link().set_port(port).execute().await.map_err(fail())
}

/// Turns the interfaces of the calling thread's network namespace on; runs on a thread of its own.
pub(super) fn configure_inside(network: &Network, addresses: &[IpAddr]) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let netlink = Netlink::open()?;
        let handle = &netlink.handle;
        turn_on(&netlink, "lo").await?;
        let link = netlink.index(INSIDE).await.map_err(io::Error::other)?;
        let index = link.ok_or(io::ErrorKind::NotFound)?.header.index;
        if addresses.iter().any(IpAddr::is_ipv6) {
            ready_six()?;
        }
        for address in addresses {
            let prefix = host_prefix(*address);
            add_address(handle, index, *address, prefix)
                .await
                .map_err(io::Error::other)?;
        }
        turn_on(&netlink, INSIDE).await?;
        refuse_redirects("ipv4")?;
        for address in addresses {
            let gateway = network.ranges.gateway_of(*address).ok_or(io::ErrorKind::NotFound)?;
            add_routes(handle, index, gateway).await.map_err(io::Error::other)?;
        }
        Ok(())
    })
}

/// The prefix of a single address.
fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Pods have no neighbours but the gateway: what they send each other goes through this machine, so that the answer to a
/// packet that was led from a Service's address to a pod comes back by the same way.
async fn add_routes(handle: &Handle, index: u32, gateway: IpAddr) -> Result<(), Error> {
    let prefix = host_prefix(gateway);
    let routes = match gateway {
        IpAddr::V4(gateway) => {
            let neighbour = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(gateway, prefix)
                .output_interface(index)
                .scope(RouteScope::Link)
                .build();
            [
                neighbour,
                RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build(),
            ]
        }
        IpAddr::V6(gateway) => {
            let neighbour = RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(gateway, prefix)
                .output_interface(index)
                .build();
            let others = RouteMessageBuilder::<Ipv6Addr>::new().gateway(gateway);
            [neighbour, others.output_interface(index).build()]
        }
    };
    for route in routes {
        handle.route().add(route).execute().await?;
    }
    Ok(())
}

/// Addresses are used at once, and nobody's word is taken for where routers are: another pod could say it, too. The
/// settings are those of the calling thread's network namespace.
fn ready_six() -> io::Result<()> {
    for (name, value) in [("disable_ipv6", "0"), ("accept_dad", "0"), ("accept_ra", "0")] {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{INSIDE}/{name}"), value)?;
    }
    // Pods that talk to themselves by ::1 get by without a network.
    std::fs::write("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "0")?;
    refuse_redirects("ipv6")
}

/// The gateway sends packets back over the bridge they came from, and tells their senders of the shorter way, which
/// they must not take. The settings are those of the calling thread's network namespace.
fn refuse_redirects(family: &str) -> io::Result<()> {
    for scope in ["all", INSIDE] {
        std::fs::write(format!("/proc/sys/net/{family}/conf/{scope}/accept_redirects"), "0")?;
    }
    Ok(())
}

async fn turn_on(netlink: &Netlink, name: &str) -> io::Result<()> {
    let link = netlink
        .index(name)
        .await
        .map_err(io::Error::other)?
        .ok_or(io::ErrorKind::NotFound)?;
    let up = LinkUnspec::new_with_index(link.header.index).up().build();
    netlink.handle.link().set(up).execute().await.map_err(io::Error::other)
}

/// Removes an interface; no error if there is none.
pub(super) async fn remove(name: &str) -> Result<(), NetworkError> {
    let netlink_ = Netlink::open().map_err(system("open netlink"))?;
    let fail = || netlink(format!("remove the interface {name}"));
    let Some(link) = netlink_.index(name).await.map_err(fail())? else {
        return Ok(());
    };
    debug_assert!(
        link.attributes
            .iter()
            .any(|attribute| *attribute == LinkAttribute::IfName(name.to_owned()))
    );
    let removed = netlink_.handle.link().del(link.header.index).execute().await;
    removed.or_else(unless(nix::libc::ENODEV)).map_err(fail())
}
