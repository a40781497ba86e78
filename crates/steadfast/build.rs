//! Links the binary at a fixed address.
//!
//! It is executed again for every container, several times. At an address of the kernel's choice each of these processes
//! would first adapt more than a megabyte of pointers to it: longer than all else it does, and memory of its own.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo:rustc-link-arg-bins=-no-pie");
    }
}
