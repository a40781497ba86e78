//! Container images for the demo and the tests, made on the spot from Debian packages.
//!
//! The result is one archive that is an OCI layout and what `docker save` writes at the same time.

mod databases;

use crate::debian;
use anyhow::{Context, bail};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Larger layers are not compressed.
const DEFLATED_BYTES_MAX: usize = 16 << 20;

/// What an image is made of.
struct Recipe {
    /// Name and the tags it gets; each tag is an image of its own, told apart by the variable `VERSION`.
    name: &'static str,
    tags: &'static [&'static str],
    packages: &'static [&'static str],
    /// Which of the unpacked files go in, as (path in the packages, path in the image); a folder brings all in it.
    files: &'static [(&'static str, &'static str)],
    /// Symbolic links: (path in the image, target).
    links: &'static [(&'static str, &'static str)],
    folders: &'static [&'static str],
    /// Users beside root and nobody, as (name, number); each with a group of its own.
    users: &'static [(&'static str, u32)],
    command: &'static [&'static str],
}

/// Names that busybox answers to in our images.
const APPLETS: &[&str] = &[
    "cat", "chmod", "cp", "date", "dd", "df", "echo", "env", "false", "find", "grep", "head", "hostname", "httpd",
    "id", "ip", "kill", "ln", "ls", "mkdir", "mount", "mv", "nc", "nslookup", "ping", "ps", "pwd", "rm", "sed", "seq",
    "sleep", "sort", "stty", "tail", "test", "timeout", "touch", "tr", "true", "tty", "uname", "vi", "wc", "wget",
    "which", "whoami", "xargs",
];

const WEB: Recipe = Recipe {
    name: "steadfast.local/web",
    tags: &["1", "2"],
    packages: &["busybox-static", "bash-static"],
    files: &[("bin/busybox", "bin/busybox"), ("bin/bash-static", "bin/bash")],
    // Busybox's own shell drops variables whose names hold a dash, as service links do; bash keeps them.
    links: &[("bin/sh", "bash")],
    folders: &["tmp", "www", "etc", "proc", "sys", "dev", "run", "var", "root"],
    users: &[],
    command: &["/bin/httpd", "-f", "-v", "-p", "80", "-h", "/www"],
};

/// Holds the namespaces of a pod under containerd: its only process does nothing.
const PAUSE: Recipe = Recipe {
    name: "steadfast.local/pause",
    tags: &["1"],
    packages: &["busybox-static"],
    files: &[("bin/busybox", "bin/busybox")],
    links: &[],
    folders: &["etc", "proc", "sys", "dev"],
    users: &[],
    command: &["/bin/busybox", "sleep", "2147483647"],
};

/// Builds the image `name` into the archive `out`.
///
/// # Errors
/// When the packages cannot be had or the archive cannot be written.
pub(crate) fn build(name: &str, out: &Path) -> anyhow::Result<()> {
    let recipe = match name {
        "web" => &WEB,
        "pause" => &PAUSE,
        "redis" => &databases::REDIS,
        "postgresql" => &databases::POSTGRESQL,
        "zookeeper" => &databases::ZOOKEEPER,
        "etcd" => &databases::ETCD,
        _ => bail!("no image {name:?}; known: web, pause, redis, postgresql, zookeeper, etcd"),
    };
    let unpacked = debian::unpack(name, recipe.packages)?;
    let layer = layer(recipe, &unpacked).context("make the layer")?;
    if let Some(dir) = out.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let new = out.with_extension("new");
    archive(recipe, &layer, &new).with_context(|| format!("write {}", out.display()))?;
    std::fs::rename(new, out)?;
    Ok(())
}

fn layer(recipe: &Recipe, unpacked: &Path) -> anyhow::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.follow_symlinks(false);
    tar.mode(tar::HeaderMode::Deterministic);
    for folder in recipe.folders {
        let mut header = header(tar::EntryType::Directory, 0o755);
        if *folder == "tmp" {
            header.set_mode(0o1777);
        }
        tar.append_data(&mut header, format!("{folder}/"), std::io::empty())?;
    }
    for (from, to) in recipe.files {
        let path = unpacked.join(from);
        if path.is_dir() {
            tar.append_dir_all(to, &path)?;
        } else {
            tar.append_path_with_name(&path, to)
                .with_context(|| format!("add {}", path.display()))?;
        }
    }
    let applets = APPLETS.iter().map(|name| (format!("bin/{name}"), "busybox"));
    for (path, target) in recipe
        .links
        .iter()
        .map(|(path, target)| ((*path).to_owned(), *target))
        .chain(applets)
    {
        tar.append_link(&mut header(tar::EntryType::Symlink, 0o777), path, target)?;
    }
    let (mut passwd, mut group) = (
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n".to_owned(),
        "root:x:0:\nnogroup:x:65534:\n".to_owned(),
    );
    for (name, number) in recipe.users {
        writeln!(passwd, "{name}:x:{number}:{number}:{name}:/tmp:/bin/sh")?;
        writeln!(group, "{name}:x:{number}:")?;
    }
    for (path, text) in [
        ("etc/passwd", passwd.as_str()),
        ("etc/group", &group),
        ("etc/nsswitch.conf", "hosts: files dns\n"),
    ] {
        append(&mut tar, path, text.as_bytes())?;
    }
    Ok(tar.into_inner()?)
}

fn archive(recipe: &Recipe, layer: &[u8], out: &Path) -> anyhow::Result<()> {
    let diff_id = digest(layer)?;
    // Deflating much takes a debug build minutes.
    let (packed, suffix) = if layer.len() > DEFLATED_BYTES_MAX {
        (Cow::Borrowed(layer), "")
    } else {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(layer)?;
        (Cow::Owned(gzip.finish()?), "+gzip")
    };
    let mut tar = tar::Builder::new(File::create(out)?);
    append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let blob = |tar: &mut tar::Builder<File>, content: &[u8]| -> anyhow::Result<String> {
        let digest = digest(content)?;
        append(tar, &format!("blobs/sha256/{digest}"), content)?;
        Ok(digest)
    };
    let layer_digest = blob(&mut tar, &packed)?;
    let (mut manifests, mut saved) = (Vec::new(), Vec::new());
    for tag in recipe.tags {
        let config = serde_json::to_vec(&config(recipe, tag, &diff_id))?;
        let config_digest = blob(&mut tar, &config)?;
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config_digest, config.len()),
            "layers": [descriptor(&format!("application/vnd.oci.image.layer.v1.tar{suffix}"), &layer_digest, packed.len())],
        }))?;
        let digest = blob(&mut tar, &manifest)?;
        let reference = format!("{}:{tag}", recipe.name);
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &digest, manifest.len());
        entry["annotations"] = json!({"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": tag});
        manifests.push(entry);
        saved.push(json!({
            "Config": format!("blobs/sha256/{config_digest}"),
            "RepoTags": [reference],
            "Layers": [format!("blobs/sha256/{layer_digest}")],
        }));
    }
    let index =
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests});
    append(&mut tar, "index.json", index.to_string().as_bytes())?;
    append(&mut tar, "manifest.json", Value::from(saved).to_string().as_bytes())?;
    tar.finish()?;
    Ok(())
}

fn config(recipe: &Recipe, tag: &str, diff_id: &str) -> Value {
    json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", format!("VERSION={tag}")],
            "Cmd": recipe.command,
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff_id}")]},
        "history": [{"created_by": "cargo xtask image"}],
    })
}

fn descriptor(media_type: &str, digest: &str, size: usize) -> Value {
    json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size})
}

/// The SHA-256 in hexadecimal digits. Coreutils' program is ten times as fast as a debug build of a library.
fn digest(content: &[u8]) -> anyhow::Result<String> {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start sha256sum")?;
    child.stdin.take().context("no pipe")?.write_all(content)?;
    let said = child.wait_with_output()?;
    let text = String::from_utf8(said.stdout)?;
    let digest = text
        .split(' ')
        .next()
        .filter(|d| said.status.success() && d.len() == 64);
    Ok(digest.context("sha256sum failed")?.to_owned())
}

fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn append<W: std::io::Write>(tar: &mut tar::Builder<W>, path: &str, content: &[u8]) -> anyhow::Result<()> {
    let mut header = header(tar::EntryType::Regular, 0o644);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content)?;
    Ok(())
}
