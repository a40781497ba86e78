//! `recursiveReadOnly`: whether the mounts below a read-only mount are read-only, too.

use api::k8s::api::core::v1::VolumeMount;

/// Whether a mount is to be recursively read-only, on a runtime that can (or cannot) do that.
///
/// # Errors
/// It must be, and cannot.
pub(super) fn is_recursive(mount: &VolumeMount, runtime_can: bool) -> Result<bool, String> {
    let read_only = mount.read_only == Some(true);
    let failed = |why: &str| {
        Err(format!(
            "failed to resolve recursive read-only mode: volume \"{}\" requested recursive read-only mode, but {why}",
            mount.name
        ))
    };
    match mount.recursive_read_only.as_deref() {
        Some("IfPossible") => Ok(read_only && runtime_can),
        Some("Enabled") if !read_only => failed("it is not read-only"),
        Some("Enabled") if !runtime_can => failed("it is not supported by the runtime"),
        Some("Enabled") => Ok(true),
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        let check = |mode: Option<&str>, read_only: bool, runtime_can: bool, expected: Option<bool>| {
            let mount = VolumeMount {
                read_only: Some(read_only),
                recursive_read_only: mode.map(Into::into),
                ..VolumeMount::default()
            };
            assert_eq!(is_recursive(&mount, runtime_can).ok(), expected, "{mode:?}");
        };
        check(None, true, true, Some(false));
        check(Some("Disabled"), true, true, Some(false));
        check(Some("IfPossible"), true, true, Some(true));
        check(Some("IfPossible"), true, false, Some(false));
        check(Some("IfPossible"), false, true, Some(false));
        check(Some("Enabled"), true, true, Some(true));
        check(Some("Enabled"), true, false, None);
        check(Some("Enabled"), false, true, None);
    }
}
