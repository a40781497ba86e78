//! Replaces the cloned process by the container's program.
//!
//! Differs from libcontainer's own in its words (those of runc, which people search for), in asking the kernel
//! whether a file may be executed instead of reading its mode, and in working without a PATH.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use libcontainer::oci_spec::runtime::{LinuxSeccomp, Spec};
use libcontainer::seccomp::initialize_seccomp;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access, execv};

/// Where programs are looked for if the process has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Clone, Default)]
pub(crate) struct ExecProgram {
    /// The filter of the container that a further process joins; libcontainer forgets it there.
    pub(crate) seccomp: Option<LinuxSeccomp>,
}

impl Executor for ExecProgram {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let args = args_of(spec);
        let name = args
            .first()
            .ok_or_else(|| ExecutorValidationError::ArgValidationError("exec: \"\": no command given".into()))?;
        find(name, &path_of(spec))
            .map(drop)
            .map_err(|reason| ExecutorValidationError::ArgValidationError(format!("exec: {name:?}: {reason}")))
    }

    fn setup_envs(&self, envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        for (name, _) in std::env::vars_os() {
            // SAFETY: this is a cloned single-threaded process; nothing else reads the environment.
            unsafe { std::env::remove_var(name) };
        }
        for (name, value) in envs {
            // Such names and values cannot be passed on at all, and `set_var` panics on them.
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                continue;
            }
            // SAFETY: as above.
            unsafe { std::env::set_var(name, value) };
        }
        Ok(())
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let args = args_of(spec);
        let name = args.first().ok_or(ExecutorError::InvalidArg)?;
        let program = find(name, &path_of(spec)).map_err(|reason| self.failed(name, &reason))?;
        let program = CString::new(program.as_os_str().as_bytes()).map_err(|_| ExecutorError::InvalidArg)?;
        let args = args
            .iter()
            .map(|arg| CString::new(arg.as_bytes()))
            .collect::<Result<Vec<_>, _>>();
        let args = args.map_err(|_| ExecutorError::InvalidArg)?;
        self.confine().map_err(|reason| self.failed(name, &reason))?;
        let Err(errno) = execv(&program, &args);
        Err(self.failed(name, &reason(errno)))
    }
}

impl ExecProgram {
    /// Applies the filter. By now the right to do so is gone (but for CAP_SYS_ADMIN), so what is run here can gain no
    /// other rights either: a shell in a confined container cannot use setuid programs.
    fn confine(&self) -> Result<(), String> {
        let Some(filter) = &self.seccomp else { return Ok(()) };
        nix::sys::prctl::set_no_new_privs().map_err(|errno| format!("no_new_privs: {errno}"))?;
        initialize_seccomp(filter)
            .map(drop)
            .map_err(|error| format!("seccomp: {error}"))
    }

    /// The caller may be gone by now, so the container's own standard error, thus its log, is told as well.
    fn failed(&self, name: &str, reason: &str) -> ExecutorError {
        let message = format!("exec: {name:?}: {reason}");
        eprintln!("{message}");
        ExecutorError::Other(message)
    }
}

fn args_of(spec: &Spec) -> &[String] {
    spec.process()
        .as_ref()
        .and_then(|process| process.args().as_deref())
        .unwrap_or_default()
}

fn path_of(spec: &Spec) -> String {
    let env = spec
        .process()
        .as_ref()
        .and_then(|process| process.env().as_deref())
        .unwrap_or_default();
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH="));
    path.unwrap_or(DEFAULT_PATH).to_owned()
}

/// The file to execute for `name`, or why there is none.
fn find(name: &str, path: &str) -> Result<PathBuf, String> {
    if name.contains('/') {
        let file = PathBuf::from(name);
        return check(&file).map(|()| file).map_err(|errno| match errno {
            Errno::ENOENT => format!("stat {name}: no such file or directory"),
            errno => reason(errno),
        });
    }
    let mut found = None;
    for folder in path.split(':') {
        let folder = if folder.is_empty() { "." } else { folder };
        let file = Path::new(folder).join(OsStr::new(name));
        match check(&file) {
            Ok(()) => return Ok(file),
            Err(Errno::EACCES) => found = Some(reason(Errno::EACCES)),
            Err(_) => {}
        }
    }
    Err(found.unwrap_or_else(|| "executable file not found in $PATH".to_owned()))
}

fn check(file: &Path) -> Result<(), Errno> {
    let metadata = std::fs::metadata(file).map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    if metadata.is_dir() {
        return Err(Errno::EISDIR);
    }
    access(file, AccessFlags::X_OK)
}

fn reason(errno: Errno) -> String {
    match errno {
        Errno::EACCES => "permission denied".to_owned(),
        Errno::EISDIR => "is a directory".to_owned(),
        Errno::ENOEXEC => "exec format error".to_owned(),
        Errno::ENOENT => "no such file or directory (perhaps the interpreter of a script)".to_owned(),
        other => other.desc().to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn programs_are_found_or_explained() {
        assert_eq!(find("sh", "/nowhere:/bin"), Ok("/bin/sh".into()));
        assert_eq!(find("/bin/sh", ""), Ok("/bin/sh".into()));
        assert_eq!(
            find("no-such-program", "/bin"),
            Err("executable file not found in $PATH".into())
        );
        assert_eq!(
            find("/no/such", "/bin"),
            Err("stat /no/such: no such file or directory".into())
        );
        assert_eq!(find("/etc/passwd", "/bin"), Err("permission denied".into()));
        assert_eq!(find("/etc", "/bin"), Err("is a directory".into()));
    }
}
