//! Addresses for servers of the host that every pod can reach through its gateway, whatever the network is made of.
//!
//! The address lies on a link of its own on the host. It stays there when the process ends, so a restart finds it.

use futures::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkBridge, LinkDummy, LinkUnspec, RouteMessageBuilder};
use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The name of the link.
pub const LINK_NAME: &str = "steadfast-dns";

const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const EOPNOTSUPP: i32 = 95;

/// Why the address cannot be put on the host.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is no netlink socket.
    #[error("cannot speak to the kernel's network")]
    Open(#[source] io::Error),
    /// Links or addresses cannot be read.
    #[error("cannot read the host's links and addresses")]
    Read(#[source] rtnetlink::Error),
    /// The link cannot be made.
    #[error("cannot make link {LINK_NAME}")]
    Make(#[source] rtnetlink::Error),
    /// The address cannot be added.
    #[error("cannot put address {address} on link {LINK_NAME}")]
    Address {
        /// The address.
        address: IpAddr,
        /// What the kernel said.
        source: rtnetlink::Error,
    },
    /// The route cannot be added.
    #[error("cannot lead packets to {to} to link {LINK_NAME}")]
    Route {
        /// Where they go.
        to: String,
        /// What the kernel said.
        source: rtnetlink::Error,
    },
    /// The link cannot be removed.
    #[error("cannot remove link {LINK_NAME}")]
    Remove(#[source] rtnetlink::Error),
}

/// Makes sure that the host has the addresses. Those that some link has already, and loopback ones, are left alone.
///
/// # Errors
/// [`LinkError`] if the kernel refuses.
pub async fn ensure_addresses(wanted: impl IntoIterator<Item = IpAddr>) -> Result<(), LinkError> {
    let mut missing: HashSet<IpAddr> = wanted
        .into_iter()
        .filter(|address| !address.is_loopback() && !address.is_unspecified())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    with_netlink(async |handle| {
        for present in addresses(&handle).await? {
            missing.remove(&present);
        }
        if missing.is_empty() {
            return Ok(());
        }
        let index = ensure_link(&handle).await?;
        if missing.iter().any(IpAddr::is_ipv6) {
            allow_six();
        }
        for address in missing {
            let prefix = if address.is_ipv4() { 32 } else { 128 };
            let mut add = handle.address().add(index, address, prefix);
            if address.is_ipv6() {
                // Nobody else can have it, so there is nobody to ask before it is used.
                add.message_mut().header.flags |= AddressHeaderFlags::Nodad;
            }
            match add.execute().await {
                Err(error) if code(&error) != Some(EEXIST) => {
                    return Err(LinkError::Address { address, source: error });
                }
                _ => tracing::info!(%address, link = LINK_NAME, "the host has the address of a Service"),
            }
        }
        Ok(())
    })
    .await
}

/// Makes sure that the host has a way to a range of addresses that the packet filter leads elsewhere, even if it has no
/// default route: packets without one are refused before the filter sees them.
///
/// # Errors
/// [`LinkError`] if the kernel refuses.
pub async fn ensure_route(base: IpAddr, prefix: u8) -> Result<(), LinkError> {
    with_netlink(async |handle| {
        let index = ensure_link(&handle).await?;
        if base.is_ipv6() {
            allow_six();
        }
        // Scopes are IPv4's.
        let route = match base {
            IpAddr::V4(base) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(base, prefix)
                .output_interface(index)
                .scope(RouteScope::Link)
                .build(),
            IpAddr::V6(base) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(base, prefix)
                .output_interface(index)
                .build(),
        };
        match handle.route().add(route).execute().await {
            Err(error) if code(&error) != Some(EEXIST) => {
                let to = format!("{base}/{prefix}");
                Err(LinkError::Route { to, source: error })
            }
            _ => Ok(()),
        }
    })
    .await
}

/// Takes the link with its addresses away. Nothing happens if there is none.
///
/// # Errors
/// [`LinkError`] if the kernel refuses.
pub async fn remove_link() -> Result<(), LinkError> {
    with_netlink(async |handle| match find_link(&handle).await? {
        Some(index) => handle.link().del(index).execute().await.map_err(LinkError::Remove),
        None => Ok(()),
    })
    .await
}

async fn with_netlink<T>(work: impl AsyncFnOnce(Handle) -> Result<T, LinkError>) -> Result<T, LinkError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(LinkError::Open)?;
    let _connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    work(handle).await
}

async fn addresses(handle: &Handle) -> Result<Vec<IpAddr>, LinkError> {
    let messages: Vec<_> = handle
        .address()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(LinkError::Read)?;
    let attributes = messages.into_iter().flat_map(|message| message.attributes);
    Ok(attributes
        .filter_map(|attribute| match attribute {
            AddressAttribute::Address(address) | AddressAttribute::Local(address) => Some(address),
            _ => None,
        })
        .collect())
}

/// The link's number, after making it and switching it on if need be.
async fn ensure_link(handle: &Handle) -> Result<u32, LinkError> {
    let index = match find_link(handle).await? {
        Some(index) => index,
        None => {
            make_link(handle).await?;
            let missing = || LinkError::Make(rtnetlink::Error::RequestFailed);
            find_link(handle).await?.ok_or_else(missing)?
        }
    };
    let up = LinkUnspec::new_with_index(index).up().build();
    handle.link().set(up).execute().await.map_err(LinkError::Make)?;
    Ok(index)
}

/// Machines may keep IPv6 from new links. Where that cannot be changed, adding an address says so better.
fn allow_six() {
    let setting = format!("/proc/sys/net/ipv6/conf/{LINK_NAME}/disable_ipv6");
    if let Err(error) = std::fs::write(&setting, "0") {
        tracing::debug!(%error, setting, "cannot allow IPv6");
    }
}

/// A dummy link; where the kernel has none, a bridge without ports does as well.
async fn make_link(handle: &Handle) -> Result<(), LinkError> {
    let made = match handle.link().add(LinkDummy::new(LINK_NAME).build()).execute().await {
        Err(error) if code(&error) == Some(EOPNOTSUPP) => {
            handle.link().add(LinkBridge::new(LINK_NAME).build()).execute().await
        }
        made => made,
    };
    match made {
        // Somebody else was quicker.
        Err(error) if code(&error) == Some(EEXIST) => Ok(()),
        made => made.map_err(LinkError::Make),
    }
}

async fn find_link(handle: &Handle) -> Result<Option<u32>, LinkError> {
    let mut links = handle.link().get().match_name(LINK_NAME.to_owned()).execute();
    match links.try_next().await {
        Ok(link) => Ok(link.map(|link| link.header.index)),
        Err(error) if code(&error) == Some(ENODEV) => Ok(None),
        Err(error) => Err(LinkError::Read(error)),
    }
}

/// The error number that the kernel gave.
fn code(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.code.map(|code| code.get().abs()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sched::{CloneFlags, unshare};

    /// Runs in a network of its own, which ends with the thread.
    fn in_a_network_of_its_own(test: impl Future<Output = ()> + Send + 'static) {
        let thread = std::thread::spawn(|| {
            if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
                println!("no network of its own: {error}");
                return;
            }
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(test);
        });
        thread.join().unwrap();
    }

    #[test]
    fn address_is_put_on_the_host_once_and_taken_away() {
        in_a_network_of_its_own(async {
            let address: IpAddr = "10.96.0.10".parse().unwrap();
            let six: IpAddr = "fd00::10".parse().unwrap();
            let loopback: IpAddr = "127.0.0.1".parse().unwrap();
            for _ in 0..2 {
                ensure_addresses([address, six, loopback]).await.unwrap();
            }
            for bound in [address, six] {
                tokio::net::UdpSocket::bind((bound, 53)).await.unwrap();
            }
            let found = with_netlink(async |handle| addresses(&handle).await).await.unwrap();
            assert_eq!(
                found.iter().filter(|found| **found == address).count() % 2,
                0,
                "{found:?}"
            );
            assert!(found.contains(&six) && !found.contains(&loopback), "{found:?}");
            for _ in 0..2 {
                remove_link().await.unwrap();
            }
            let found = with_netlink(async |handle| addresses(&handle).await).await.unwrap();
            assert!(!found.contains(&address));
        });
    }

    #[test]
    fn range_can_be_reached_without_a_default_route() {
        in_a_network_of_its_own(async {
            let reach = async || {
                let socket = tokio::net::UdpSocket::bind("0.0.0.0:0").await.unwrap();
                socket.connect("10.96.5.6:53").await
            };
            assert_eq!(reach().await.unwrap_err().kind(), io::ErrorKind::NetworkUnreachable);
            let own = ["10.96.0.1", "fd00:96::1"].map(|own| own.parse::<IpAddr>().unwrap());
            ensure_addresses(own).await.unwrap();
            for _ in 0..2 {
                ensure_route("10.96.0.0".parse().unwrap(), 16).await.unwrap();
                ensure_route("fd00:96::".parse().unwrap(), 108).await.unwrap();
            }
            reach().await.unwrap();
            let six = tokio::net::UdpSocket::bind("[::]:0").await.unwrap();
            six.connect("[fd00:96::5]:53").await.unwrap();
            remove_link().await.unwrap();
            assert!(reach().await.is_err());
        });
    }

    #[test]
    fn address_that_another_link_has_is_left_there() {
        in_a_network_of_its_own(async {
            let address: IpAddr = "10.96.0.10".parse().unwrap();
            with_netlink(async |handle| {
                handle
                    .link()
                    .add(LinkBridge::new("other").build())
                    .execute()
                    .await
                    .map_err(LinkError::Make)?;
                let mut links = handle.link().get().match_name("other".to_owned()).execute();
                let index = links.try_next().await.map_err(LinkError::Read)?.unwrap().header.index;
                handle
                    .address()
                    .add(index, address, 24)
                    .execute()
                    .await
                    .map_err(LinkError::Make)
            })
            .await
            .unwrap();
            ensure_addresses([address]).await.unwrap();
            assert_eq!(
                with_netlink(async |handle| find_link(&handle).await).await.unwrap(),
                None
            );
        });
    }
}
