//! Which allocator a process of this binary has: mimalloc for `steadfast controllers`, the C library's for all others.
//!
//! The controllers make and drop small objects all day: with mimalloc they have a fifth less memory, and what an event
//! costs them does not grow with what lies about. The daemon would be faster with it, too (a third less processor time
//! for writes), but with 100,000 objects it had 316 MiB instead of 255, and with 100 pods a third more: it has many
//! threads, and mimalloc keeps pages for each. The monitor of each container needs next to no memory, and there are as
//! many of them as containers: there the C library's allocator needs megabytes less.
//!
//! mimalloc is told not to ask the kernel for huge pages: of each it would keep two megabytes for the first object. The
//! usual switch for that would hold for every process that is started from here as well.
//!
//! What one allocator gave may never be given back to the other. So it is decided once, before `main` and before the
//! first allocation, and never again.

#![allow(unsafe_code)]

use libmimalloc_sys::{_mi_option_last, mi_option_set_enabled, mi_option_t, mi_process_init};
use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{CStr, c_char, c_int};
use std::sync::atomic::{AtomicU8, Ordering};

/// The command that has mimalloc.
const CONTROLLERS: &CStr = c"controllers";

const UNDECIDED: u8 = 0;
const SYSTEM: u8 = 1;
const MIMALLOC: u8 = 2;

/// Leaves `UNDECIDED` once, and whatever it then is it stays. Relaxed suffices: it guards no other memory, and a thread
/// that was started later sees at least what the thread saw that started it.
static DECIDED: AtomicU8 = AtomicU8::new(UNDECIDED);

#[global_allocator]
static ALLOCATOR: OfRole = OfRole;

struct OfRole;

// SAFETY: each call goes to one and the same of two allocators for as long as the process lives (`is_mimalloc`), with
// the caller's arguments as they are, so what holds for that allocator holds here.
unsafe impl GlobalAlloc for OfRole {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_mimalloc() {
            // SAFETY: the caller's promise is handed on.
            unsafe { MiMalloc.alloc(layout) }
        } else {
            // SAFETY: the caller's promise is handed on.
            unsafe { System.alloc(layout) }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_mimalloc() {
            // SAFETY: the caller's promise is handed on.
            unsafe { MiMalloc.alloc_zeroed(layout) }
        } else {
            // SAFETY: the caller's promise is handed on.
            unsafe { System.alloc_zeroed(layout) }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if is_mimalloc() {
            // SAFETY: `pointer` is of this allocator, as all are in this process; the rest is the caller's promise.
            unsafe { MiMalloc.dealloc(pointer, layout) }
        } else {
            // SAFETY: as above.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if is_mimalloc() {
            // SAFETY: `pointer` is of this allocator, as all are in this process; the rest is the caller's promise.
            unsafe { MiMalloc.realloc(pointer, layout, size) }
        } else {
            // SAFETY: as above.
            unsafe { System.realloc(pointer, layout, size) }
        }
    }
}

#[inline]
fn is_mimalloc() -> bool {
    match DECIDED.load(Ordering::Relaxed) {
        MIMALLOC => true,
        SYSTEM => false,
        _ => decide(SYSTEM) == MIMALLOC,
    }
}

/// What was decided: `allocator` if nothing was.
#[cold]
fn decide(allocator: u8) -> u8 {
    let before = DECIDED.compare_exchange(UNDECIDED, allocator, Ordering::Relaxed, Ordering::Relaxed);
    before.err().unwrap_or(allocator)
}

/// `mi_option_allow_thp`, which the crate does not name: the number of another version may be another, so this one may
/// not change unseen.
const ALLOW_HUGE_PAGES: mi_option_t = 43;
const _: () = assert!(_mi_option_last == 47, "look the option up in mimalloc.h again");

/// The C library calls this before `main`, with what it will give to `main`; musl and others give nothing, and then the
/// first allocation decides.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[used]
#[unsafe(link_section = ".init_array.00098")]
static BEFORE_MAIN: extern "C" fn(c_int, *const *const c_char, *const *const c_char) = decide_by_role;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
extern "C" fn decide_by_role(words: c_int, argv: *const *const c_char, _environment: *const *const c_char) {
    if words < 2 {
        return;
    }
    // SAFETY: the C library gives as many pointers to words that end in zero as it says, and leaves them in place.
    let command = unsafe { CStr::from_ptr(*argv.add(1)) };
    let is_controllers = command == CONTROLLERS;
    if is_controllers {
        // The preparations would take the option for the switch that children inherit, so it is set after them.
        // SAFETY: this may be called at any time, and whoever calls it later does nothing.
        unsafe { mi_process_init() };
        // SAFETY: there is one thread only, and the option exists.
        unsafe { mi_option_set_enabled(ALLOW_HUGE_PAGES, false) };
    }
    decide(if is_controllers { MIMALLOC } else { SYSTEM });
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn what_was_decided_stays() {
        let before = Box::new(1);
        assert!(!is_mimalloc(), "a test has the one of the C library");
        assert_eq!(decide(MIMALLOC), SYSTEM);
        assert!(!is_mimalloc());
        drop(before);
    }

    #[test]
    fn who_has_mimalloc_is_a_command() {
        let args = crate::args::Args::command();
        assert!(args.find_subcommand(CONTROLLERS.to_str().unwrap()).is_some());
    }
}
