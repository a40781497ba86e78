//! Debian packages: installing what tests need, unpacking what images are made of.

use crate::shell;
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the build itself needs beside Rust and a C compiler: the library that compiles seccomp filters.
pub(crate) const TO_BUILD: (&str, &str) = ("/usr/include/seccomp.h", "libseccomp-dev");

/// Installs those of `packages` that are missing. `(program, package)`: a package is missing if its program is.
///
/// # Errors
/// When we are not root or apt fails.
pub(crate) fn install(packages: &[(&str, &str)]) -> anyhow::Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|(program, _)| !is_there(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("installing {}", missing.join(" "));
    let apt = |words: &[&str]| {
        let mut command = if is_root() {
            Command::new("apt-get")
        } else {
            Command::new("sudo")
        };
        if !is_root() {
            command.arg("apt-get");
        }
        command.env("DEBIAN_FRONTEND", "noninteractive").args(words);
        command
    };
    shell::run(&mut apt(&["update", "-qq"]))?;
    shell::run(apt(&["install", "-y", "-qq", "--no-install-recommends"]).args(&missing))
        .with_context(|| format!("install by hand: {}", missing.join(" ")))
}

fn is_there(program: &str) -> bool {
    if program.starts_with('/') {
        Path::new(program).exists()
    } else {
        shell::has_program(program)
    }
}

/// Whether we run as root.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}

/// Downloads Debian packages (once) and unpacks them, without installing, into `target/debian/NAME`.
///
/// # Errors
/// When a package cannot be had.
pub(crate) fn unpack(name: &str, packages: &[&str]) -> anyhow::Result<PathBuf> {
    let root = shell::target().join("debian").join(name);
    let done = root.with_extension("done");
    if std::fs::read_to_string(&done).is_ok_and(|had| had == packages.join(" ")) {
        return Ok(root);
    }
    let debs = root.with_extension("debs");
    for dir in [&root, &debs] {
        if dir.exists() {
            std::fs::remove_dir_all(dir)?;
        }
        std::fs::create_dir_all(dir)?;
    }
    download(packages, &debs)?;
    for entry in std::fs::read_dir(&debs)? {
        shell::run(Command::new("dpkg-deb").arg("-x").arg(entry?.path()).arg(&root))?;
    }
    std::fs::write(done, packages.join(" "))?;
    Ok(root)
}

/// Downloads the source of a Debian package (once) and unpacks what its authors wrote, without Debian's changes, to `into`.
///
/// # Errors
/// When the source cannot be had.
pub(crate) fn unpack_source(name: &str, into: &Path) -> anyhow::Result<()> {
    let done = into.with_extension("done");
    if done.exists() {
        return Ok(());
    }
    let work = shell::target().join("debian").join(format!("{name}.source"));
    for dir in [&work, into] {
        if dir.exists() {
            std::fs::remove_dir_all(dir)?;
        }
    }
    std::fs::create_dir_all(work.join("lists/partial"))?;
    std::fs::create_dir_all(into)?;
    // Machines seldom list sources; this list is ours alone, and so is what apt makes of it.
    let list = |suite: &str| {
        let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
        format!("deb-src [signed-by={keys}] http://deb.debian.org/{suite} main\n")
    };
    let lists = list("debian bookworm") + &list("debian-security bookworm-security");
    std::fs::write(work.join("sources.list"), lists)?;
    let apt = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        let dir = work.display();
        command.current_dir(&work).arg("-qq");
        for option in [
            format!("Dir::Etc::sourcelist={dir}/sources.list"),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            format!("Dir::State::lists={dir}/lists"),
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command.args(words);
        command
    };
    shell::run(&mut apt(&["update"]))?;
    shell::run(&mut apt(&["source", "--download-only", name]))?;
    let is_original = |path: &PathBuf| path.to_string_lossy().contains(".orig.tar");
    let entries = std::fs::read_dir(&work)?.map(|entry| entry.map(|entry| entry.path()));
    let paths: Vec<PathBuf> = entries.collect::<Result<_, _>>()?;
    let original = paths
        .iter()
        .find(|path| is_original(path))
        .context("no original source")?;
    let mut tar = Command::new("tar");
    shell::run(
        tar.arg("-xf")
            .arg(original)
            .args(["--strip-components=1", "-C"])
            .arg(into),
    )?;
    std::fs::write(done, name).context("mark what is complete")
}

fn download(packages: &[&str], into: &Path) -> anyhow::Result<()> {
    let fetch = || {
        let mut command = Command::new("apt-get");
        // As root, apt would warn that its sandbox user cannot write here.
        command
            .current_dir(into)
            .args(["-qq", "-o", "APT::Sandbox::User=root", "download"])
            .args(packages);
        command
    };
    if shell::output(&mut fetch()).is_ok() {
        return Ok(());
    }
    // A new machine has no package lists yet.
    let mut update = if is_root() {
        Command::new("apt-get")
    } else {
        Command::new("sudo")
    };
    if !is_root() {
        update.arg("apt-get");
    }
    shell::run(update.args(["update", "-qq"]))?;
    if let Err(error) = shell::output(&mut fetch()) {
        bail!("Debian packages {packages:?} cannot be downloaded: {error:#}");
    }
    Ok(())
}
