//! Paths inside a root filesystem that somebody else has filled: links in it lead nowhere outside.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, mkdirat};

/// A folder that is `/` for every path given to it.
pub(crate) struct Root {
    fd: OwnedFd,
}

/// A folder inside a [`Root`], found without leaving it.
pub(crate) struct Folder {
    fd: OwnedFd,
}

impl Root {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            fd: open(
                path,
                OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
                Mode::empty(),
            )?,
        })
    }

    /// The folder at `path`.
    pub(crate) fn folder(&self, path: &Path) -> io::Result<Folder> {
        Ok(Folder {
            fd: self.resolve(path, OFlag::O_PATH | OFlag::O_DIRECTORY)?,
        })
    }

    /// The folder at `path`, made with its parents if it is missing; `made` is called with each one that is.
    pub(crate) fn make_folder(
        &self,
        path: &Path,
        made: &dyn Fn(&Path, &Folder) -> io::Result<()>,
    ) -> io::Result<Folder> {
        match self.folder(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        let (parent, name) = split(path)?;
        let parent = self.make_folder(&parent, made)?;
        match mkdirat(&parent.fd, name.as_os_str(), Mode::from_bits_retain(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let folder = self.folder(path)?;
        made(path, &folder)?;
        Ok(folder)
    }

    /// The file at `path`, opened for reading.
    pub(crate) fn file(&self, path: &Path) -> io::Result<File> {
        // Without O_NONBLOCK a FIFO in the image would hold us for ever.
        Ok(File::from(self.resolve(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?))
    }

    fn resolve(&self, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let relative = if relative.as_os_str().is_empty() {
            Path::new(".")
        } else {
            relative
        };
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
        Ok(openat2(&self.fd, relative, how)?)
    }
}

impl Folder {
    /// A path to `name` in this folder for ordinary calls. Calls that follow a link at its end leave the root.
    pub(crate) fn entry(&self, name: &Path) -> PathBuf {
        Path::new("/proc/self/fd")
            .join(self.fd.as_raw_fd().to_string())
            .join(name)
    }

    /// A path to the folder itself.
    pub(crate) fn path(&self) -> PathBuf {
        self.entry(Path::new("."))
    }
}

/// `path` without `.` and the root, refused if it climbs.
///
/// # Errors
/// If a component is `..`.
pub(crate) fn clean(path: &Path) -> io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                let text = format!("the path {} leaves its root", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
    }
    Ok(clean)
}

/// The parent folder and the name of a path inside the root.
pub(crate) fn split(path: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok((path.parent().unwrap_or(Path::new("")).to_owned(), PathBuf::from(name)))
}

/// Removes whatever is at `path`, which is not followed if it is a link.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_inside() {
        let outer = tempfile::tempdir().expect("a folder");
        let inner = outer.path().join("root");
        fs::create_dir_all(inner.join("etc")).expect("made");
        fs::write(outer.path().join("secret"), "outside").expect("written");
        fs::write(inner.join("secret"), "inside").expect("written");
        std::os::unix::fs::symlink("../../../secret", inner.join("etc/climb")).expect("linked");
        std::os::unix::fs::symlink("/secret", inner.join("etc/absolute")).expect("linked");
        let root = Root::open(&inner).expect("opened");
        for path in ["etc/climb", "/etc/absolute", "../secret"] {
            let text = io::read_to_string(root.file(Path::new(path)).expect("found")).expect("read");
            assert_eq!(text, "inside", "{path}");
        }
        let made = root.make_folder(Path::new("etc/a/b"), &|_, _| Ok(())).expect("made");
        fs::write(made.entry(Path::new("c")), "x").expect("written");
        assert!(inner.join("etc/a/b/c").exists());
        assert!(clean(Path::new("a/../../b")).is_err());
        assert_eq!(clean(Path::new("./a//b/")).expect("clean"), Path::new("a/b"));
    }
}
