//! Interfaces over netlink.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::path::Path;

use futures::TryStreamExt;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{
    Error, Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    new_connection,
};

use super::{Network, NetworkError, mac, system};

/// The prefix of a single address.
const HOST_PREFIX: u8 = 32;

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
    let message = LinkBridge::new(name).address(mac(network.gateway)).build();
    let made = handle.link().add(message).execute().await;
    made.or_else(unless(nix::libc::EEXIST)).map_err(fail("make"))?;
    let link = netlink_.index(name).await.map_err(fail("find"))?;
    let index = link
        .ok_or_else(|| system(format!("find the bridge {name}"))(io::ErrorKind::NotFound.into()))?
        .header
        .index;
    let prefix = network.pod_cidr.prefix_len();
    let added = handle
        .address()
        .add(index, IpAddr::V4(network.gateway), prefix)
        .execute()
        .await;
    added
        .or_else(unless(nix::libc::EEXIST))
        .map_err(fail("give an address to"))?;
    let up = LinkUnspec::new_with_index(index).up().build();
    handle.link().set(up).execute().await.map_err(fail("turn on"))
}

/// Makes a veth pair with one end on the bridge and the other in the namespace.
pub(super) async fn make_pair(
    network: &Network,
    host_end: &str,
    namespace: &Path,
    address: Ipv4Addr,
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
        .address(mac(address))
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
pub(super) fn configure_inside(network: &Network, address: Ipv4Addr) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let netlink = Netlink::open()?;
        let handle = &netlink.handle;
        turn_on(&netlink, "lo").await?;
        let link = netlink.index(INSIDE).await.map_err(io::Error::other)?;
        let index = link.ok_or(io::ErrorKind::NotFound)?.header.index;
        handle
            .address()
            .add(index, IpAddr::V4(address), HOST_PREFIX)
            .execute()
            .await
            .map_err(io::Error::other)?;
        turn_on(&netlink, INSIDE).await?;
        refuse_redirects()?;
        // Pods have no neighbours but the gateway: what they send each other goes through this machine, so that the
        // answer to a packet that was led from a Service's address to a pod comes back by the same way.
        let gateway = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(network.gateway, HOST_PREFIX)
            .output_interface(index)
            .scope(RouteScope::Link)
            .build();
        handle.route().add(gateway).execute().await.map_err(io::Error::other)?;
        let others = RouteMessageBuilder::<Ipv4Addr>::new().gateway(network.gateway).build();
        handle.route().add(others).execute().await.map_err(io::Error::other)
    })
}

/// The gateway sends packets back over the bridge they came from, and tells their senders of the shorter way, which
/// they must not take. The settings are those of the calling thread's network namespace.
fn refuse_redirects() -> io::Result<()> {
    for scope in ["all", INSIDE] {
        std::fs::write(format!("/proc/sys/net/ipv4/conf/{scope}/accept_redirects"), "0")?;
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
