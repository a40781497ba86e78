//! Real containers through CRI: run as root, on a machine with cgroups and busybox-static.

mod basics;
mod bed;
mod outside;
mod pods;
mod recovery;
mod registry;
mod streams;
