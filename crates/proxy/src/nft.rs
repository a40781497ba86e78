//! Hands commands to `nft`, which applies all of them or none.

use crate::ruleset::{self, Remembered};
use crate::service::Family;
use serde_json::Value;
use std::io;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Why rules could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The program is not there or does not start.
    #[error("cannot run nft")]
    Run(#[source] io::Error),
    /// It did not accept the commands; nothing was changed.
    #[error("nft refused: {reason}")]
    Refused {
        /// What it printed.
        reason: String,
    },
}

impl NftError {
    /// The program is not installed.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Run(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// The clients that the kernel remembers for Services with `sessionAffinity`.
///
/// # Errors
/// When `nft` cannot be run or its answer is not understood.
pub(crate) async fn remembered(family: Family) -> Result<Vec<Remembered>, NftError> {
    let mut nft = Command::new("nft");
    nft.args(["-j", "list", "sets", family.header()]).kill_on_drop(true);
    let output = nft.output().await.map_err(NftError::Run)?;
    let listed: Value = serde_json::from_slice(&output.stdout).map_err(|error| NftError::Refused {
        reason: error.to_string(),
    })?;
    let objects = listed["nftables"].as_array().into_iter().flatten();
    let ours = objects
        .map(|object| &object["set"])
        .filter(|set| set["table"] == ruleset::TABLE && set["elem"].is_array());
    Ok(ours.flat_map(clients).collect())
}

fn clients(set: &Value) -> Vec<Remembered> {
    let name = set["name"].as_str().unwrap_or_default();
    let elements = set["elem"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|element| &element["elem"]);
    let client = |element: &Value| {
        Some(Remembered {
            set: name.to_owned(),
            client: element["val"].as_str()?.to_owned(),
            timeout_s: set["timeout"].as_u64()?,
            expires_s: element["expires"].as_u64()?,
        })
    };
    elements.filter_map(client).collect()
}

/// Applies commands as one atomic change.
pub(crate) async fn apply(commands: &str) -> Result<(), NftError> {
    let mut nft = Command::new("nft");
    nft.args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut nft = nft.spawn().map_err(NftError::Run)?;
    let mut stdin = nft.stdin.take().expect("standard input is piped");
    let written = stdin.write_all(commands.as_bytes()).await;
    drop(stdin);
    let output = nft.wait_with_output().await.map_err(NftError::Run)?;
    if output.status.success() {
        return written.map_err(NftError::Run);
    }
    let reason = String::from_utf8_lossy(&output.stderr)
        .lines()
        .take(3)
        .collect::<Vec<_>>()
        .join("; ");
    Err(NftError::Refused { reason })
}

/// Removes all our rules: packets to Services go nowhere any more. A machine without `nft` has none.
///
/// # Errors
/// [`NftError`] when `nft` refuses.
pub async fn remove() -> Result<(), NftError> {
    let commands: String = Family::BOTH.map(ruleset::removal).concat();
    match apply(&commands).await {
        Err(error) if error.is_missing() => Ok(()),
        done => done,
    }
}
