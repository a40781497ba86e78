//! A CRI server: images, snapshots, sandboxes, containers, logs, exec.
