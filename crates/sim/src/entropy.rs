//! What the standard library and tokio believe to be random: the order of hash maps, which waiter is woken first.
//!
//! Both ask the system once per thread. While an episode runs on a thread of its own, the system's answer is taken from
//! the seed, so that the episode can be run again. No other thread notices.

use std::cell::Cell;
use std::ffi::{c_long, c_uint};

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From now on, what this thread asks the system for is of the seed. To be called before anything is asked.
pub(crate) fn fix(seed: u64) {
    SEED.with(|known| known.set(Some(seed)));
}

/// Stands before the C library's function of this name.
///
/// # Safety
/// As `getrandom(2)`: `buffer` must have room for `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, flags: c_uint) -> isize {
    let seed = SEED.try_with(Cell::get).unwrap_or_default();
    let Some(mut state) = seed else {
        // SAFETY: the caller's promise is handed on as it is.
        let got: c_long = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
        return isize::try_from(got).unwrap_or(-1);
    };
    // SAFETY: the caller promises that there is room.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer, length) };
    for byte in bytes {
        state = state
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        *byte = state.to_le_bytes()[7];
    }
    SEED.with(|known| known.set(Some(state)));
    isize::try_from(length).unwrap_or(isize::MAX)
}
