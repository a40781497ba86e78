//! Images: names, manifests, configurations, and layers unpacked for overlayfs.
//!
//! ```text
//! <root>/images/index.json        names -> images, replaced at once (images/store.rs)
//! <root>/images/content/<digest>  manifests, configurations, and layer blobs on their way to be unpacked
//! <root>/images/layers/<chain>/fs one layer's files, whiteouts in overlayfs' form (images/unpack.rs)
//! ```
//! Several processes may work on the store at once: `steadfast image load` beside the running server.

mod archive;
mod manifest;
mod pull;
pub(crate) mod reference;
pub(crate) mod store;
mod unpack;

use std::path::Path;

pub use archive::load_archive;
pub(crate) use manifest::ImageConfig;
pub(crate) use pull::{Credentials, pull};
pub(crate) use store::{Image, Store};

/// Why an image could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is not a valid image name.
    #[error("invalid image name {name:?}: {reason}")]
    Name {
        /// What was given.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry does not know the image.
    #[error("image {name} not found: {reason}")]
    NotFound {
        /// The full name.
        name: String,
        /// The registry's words.
        reason: String,
    },
    /// The registry wants other credentials.
    #[error("not allowed to pull image {name}: {reason}")]
    NotAllowed {
        /// The full name.
        name: String,
        /// The registry's words.
        reason: String,
    },
    /// The registry could not be asked.
    #[error("cannot pull image {name}")]
    Registry {
        /// The full name.
        name: String,
        /// What went wrong.
        source: Box<oci_client::errors::OciDistributionError>,
    },
    /// Something is not what its digest says.
    #[error("{what} has digest {actual}, not {expected}")]
    Digest {
        /// What was checked.
        what: String,
        /// The digest it should have.
        expected: String,
        /// The digest it has.
        actual: String,
    },
    /// A manifest, index, configuration or archive cannot be understood.
    #[error("{what} cannot be used: {reason}")]
    Content {
        /// What was read.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The image is for other machines.
    #[error("image {name} has no variant for linux/{architecture}")]
    Platform {
        /// The full name.
        name: String,
        /// This machine's architecture.
        architecture: String,
    },
    /// The disk refused.
    #[error("cannot {action}")]
    Disk {
        /// What was tried.
        action: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    fn disk(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.into();
        move |source| Self::Disk { action, source }
    }
}

/// `disk`, naming a path.
fn at(verb: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    Error::disk(format!("{verb} {}", path.display()))
}
