//! Names that last: those of kinds are compared and matched everywhere, so they live as long as the program.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex};

static NAMES: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);

/// The same text, kept for ever. Only names of groups, versions and kinds come here, each distinct one once: they take
/// as much memory as the definitions that an administrator ever made have names.
pub fn lasting(name: &str) -> &'static str {
    let mut names = NAMES.lock().expect("nothing panics while it holds the names");
    if let Some(known) = names.get(name) {
        return known;
    }
    let kept: &'static str = String::leak(name.to_owned());
    names.insert(kept);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_once() {
        let (first, second) = (lasting("crontabs"), lasting(&String::from("crontabs")));
        assert!(std::ptr::eq(first, second));
    }
}
