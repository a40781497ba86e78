//! The OCI runtime command line on libcontainer; runs only in a fresh single-threaded process.
