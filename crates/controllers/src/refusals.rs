//! What the server said to the last plan of a key, if it refused it: people are told by conditions, which are planned.

use std::collections::HashMap;
use std::sync::Mutex;

use controllers_plan::Key;

/// The last refusal of each key; a plan that went well clears it.
#[derive(Default)]
pub(crate) struct Refusals {
    messages: Mutex<HashMap<(&'static str, Key), String>>,
}

impl Refusals {
    /// Remembers a refusal, or that there was none.
    pub(crate) fn note(&self, controller: &'static str, key: &Key, message: Option<String>) {
        let mut messages = self.messages.lock().expect("no panic while held");
        match message {
            Some(message) => messages.insert((controller, key.clone()), message),
            // Most keys were never refused anything, and so need no copy.
            None if messages.is_empty() => None,
            None => messages.remove(&(controller, key.clone())),
        };
    }

    /// The last refusal.
    pub(crate) fn of(&self, controller: &'static str, key: &Key) -> Option<String> {
        let messages = self.messages.lock().expect("no panic while held");
        if messages.is_empty() {
            return None;
        }
        messages.get(&(controller, key.clone())).cloned()
    }
}
