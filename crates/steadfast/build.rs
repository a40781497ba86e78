//! Links the binary at a fixed address, and tells it which commit it is made from.
//!
//! It is executed again for every container, several times. At an address of the kernel's choice each of these processes
//! would first adapt more than a megabyte of pointers to it: longer than all else it does, and memory of its own.
//!
//! The commit goes into this crate alone, which depends on all others, so a commit builds no other anew.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo:rustc-link-arg-bins=-no-pie");
    }
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    // Whatever git says, it must say of this repository, not of one that the sources were unpacked into.
    let is_ours = git(&root, &["rev-parse", "--show-prefix"]).is_some_and(|prefix| prefix.is_empty());
    let source = if is_ours { Source::of(&root) } else { Source::default() };
    println!("cargo:rustc-env=STEADFAST_GIT_COMMIT={}", source.commit);
    println!("cargo:rustc-env=STEADFAST_GIT_TREE_STATE={}", source.tree_state);
    println!("cargo:rustc-env=STEADFAST_SOURCE_EPOCH={}", source.epoch());
}

/// What the sources are; all empty outside of git.
#[derive(Default)]
struct Source {
    commit: String,
    tree_state: &'static str,
    committed_at: String,
}

impl Source {
    fn of(root: &Path) -> Self {
        watch(root);
        let changes = git(root, &["status", "--porcelain", "--untracked-files=no"]);
        Self {
            commit: git(root, &["rev-parse", "HEAD"]).unwrap_or_default(),
            tree_state: match changes.as_deref() {
                Some("") => "clean",
                Some(_) => "dirty",
                None => "",
            },
            committed_at: git(root, &["show", "--no-patch", "--format=%ct", "HEAD"]).unwrap_or_default(),
        }
    }

    /// Seconds since 1970 of what is built: so that the same sources make the same binary, not when they were built.
    fn epoch(&self) -> u64 {
        let given = std::env::var("SOURCE_DATE_EPOCH").ok();
        let epoch = given.and_then(|text| text.parse().ok());
        epoch.or_else(|| self.committed_at.parse().ok()).unwrap_or(0)
    }
}

/// Asks for this script to be run again when the commit changes, or what differs from it.
fn watch(root: &Path) {
    let path = |name: &str| {
        let path = git(root, &["rev-parse", "--git-path", name])?;
        Some(root.join(PathBuf::from(path))).filter(|path| path.exists())
    };
    let branch = git(root, &["symbolic-ref", "--quiet", "HEAD"]);
    let names = ["HEAD", "packed-refs"].into_iter().map(str::to_owned).chain(branch);
    let of_git = names.filter_map(|name| path(&name));
    // What all crates are made of is what this one depends on anyway.
    let of_sources = ["crates", "Cargo.toml", "Cargo.lock"].map(|name| root.join(name));
    for path in of_git.chain(of_sources) {
        println!("cargo:rerun-if-changed={}", path.display());
    }
}

fn git(root: &Path, words: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(root).args(words).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim_end().to_owned())
}
