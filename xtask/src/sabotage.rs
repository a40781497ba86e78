//! `cargo xtask sabotage`: breaks a rule of the controllers, one at a time, and sees to it that the simulator notices.
//!
//! A sabotage is a replacement of a piece of source text. It is made in the working tree, the simulator is built and
//! run until a seed fails, and the text is put back, also when anything goes wrong in between.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, ensure};

use crate::shell;

/// A rule, broken.
struct Sabotage {
    /// What is broken.
    name: &'static str,
    /// The file, from the root of the workspace.
    file: &'static str,
    /// What stands there, once.
    from: &'static str,
    /// What stands there instead.
    to: &'static str,
}

/// What the simulator has to notice.
const SABOTAGES: [Sabotage; 10] = [
    Sabotage {
        name: "an ordered set makes all its pods at once",
        file: "crates/controllers-plan/src/statefulset/replicas.rs",
        from: "None => create(facts, ordinal, &mut steps, draft),",
        to: "None => create(facts, ordinal, &mut steps, draft).filter(|_| false),",
    },
    Sabotage {
        name: "an ordered set does not wait for Ready",
        file: "crates/controllers-plan/src/statefulset/replicas.rs",
        from: "if facts.is_ordered || is_terminating(&pod.metadata) {",
        to: "if is_terminating(&pod.metadata) {",
    },
    Sabotage {
        name: "an ordered set shrinks from the lowest ordinal",
        file: "crates/controllers-plan/src/statefulset/replicas.rs",
        from: "facts.condemned.last_key_value()",
        to: "facts.condemned.first_key_value()",
    },
    Sabotage {
        name: "an update begins at the lowest ordinal",
        file: "crates/controllers-plan/src/statefulset/rollout.rs",
        from: "            .range(from.min(facts.end)..)\n            .rev()\n",
        to: "            .range(from.min(facts.end)..)\n",
    },
    Sabotage {
        name: "an update of a parallel set does not count the pods that are missing already",
        file: "crates/controllers-plan/src/statefulset/rollout.rs",
        from: "usize::try_from(budget - missing)",
        to: "usize::try_from(budget - missing.min(0))",
    },
    Sabotage {
        name: "an update ignores the partition",
        file: "crates/controllers-plan/src/statefulset/rollout.rs",
        from: "facts.start + partition.max(0)",
        to: "facts.start + partition.min(0)",
    },
    Sabotage {
        name: "pods below the partition are made at the new revision",
        file: "crates/controllers-plan/src/statefulset/replicas.rs",
        from: "index < i64::from(rolling.partition.unwrap_or(0))",
        to: "index < i64::from(rolling.partition.unwrap_or(0).min(0))",
    },
    Sabotage {
        name: "a pod is removed without waiting for its container, so that its successor is its twin",
        file: "crates/controllers-plan/src/statefulset/rollout.rs",
        from: "Action::delete(Target::of(pod))",
        to: "Action::from(crate::Write::Kill { target: Target::of(pod) })",
    },
    Sabotage {
        name: "a deletion does not say which pod it means",
        file: "crates/controllers/src/send.rs",
        from: "uid: Some(target.uid.clone()),\n            resource_version: Some(target.resource_version.clone()).filter(|version| !version.is_empty()),",
        to: "uid: None,\n            resource_version: None,",
    },
    Sabotage {
        name: "claims get the set as owner though the policy retains them",
        file: "crates/controllers-plan/src/statefulset/claims.rs",
        from: "(_, Keep::Delete, _) => Some(owner_reference(set_kind, &set.metadata)),",
        to: "(_, Keep::Delete | Keep::Retain, _) => Some(owner_reference(set_kind, &set.metadata)),",
    },
];

/// A file with a sabotage in it; dropping it puts the text back.
struct Broken {
    path: PathBuf,
    sound: String,
}

impl Broken {
    fn by(sabotage: &Sabotage) -> anyhow::Result<Self> {
        let path = shell::root().join(sabotage.file);
        let sound = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let places = sound.matches(sabotage.from).count();
        ensure!(
            places == 1,
            "{:?}: its place is {places} times in {}",
            sabotage.name,
            path.display()
        );
        std::fs::write(&path, sound.replace(sabotage.from, sabotage.to))?;
        Ok(Self { path, sound })
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        if let Err(error) = std::fs::write(&self.path, &self.sound) {
            eprintln!("{} is still broken: {error}", self.path.display());
        }
    }
}

/// Breaks every rule in turn, or those whose name holds the word given. `words` also go to the simulator.
///
/// # Errors
/// When a broken rule is not noticed, or something does not build.
pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let (only, words) = match words {
        [only, rest @ ..] if !only.starts_with('-') => (*only, rest),
        rest => ("", rest),
    };
    let mut unnoticed = Vec::new();
    for sabotage in SABOTAGES.iter().filter(|sabotage| sabotage.name.contains(only)) {
        println!("{}:", sabotage.name);
        let broken = Broken::by(sabotage)?;
        // Without optimization: what is built anew for each rule takes longer to build than to run.
        let build = ["build", "--quiet", "--package", "sim"];
        shell::run(shell::cargo().args(build))?;
        drop(broken);
        let mut sim = std::process::Command::new(shell::target().join("debug/sim"));
        let status = sim
            .args(["--brief"])
            .args(words)
            .stdin(Stdio::null())
            .status()
            .context("cannot start the simulator")?;
        if status.success() {
            unnoticed.push(sabotage.name);
        }
    }
    ensure!(unnoticed.is_empty(), "not noticed: {unnoticed:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sabotage_has_its_place() {
        for sabotage in &SABOTAGES {
            let text = std::fs::read_to_string(shell::root().join(sabotage.file)).expect("a file of ours");
            assert_eq!(text.matches(sabotage.from).count(), 1, "{}", sabotage.name);
        }
    }
}
