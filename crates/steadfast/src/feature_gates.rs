//! Feature gates: one list for all components, with upstream's names.

use std::fmt::{Display, Formatter};

/// A gate's name, its default, and whether it can be switched at all.
const GATES: [(&str, bool, bool); 4] = [
    (MAX_UNAVAILABLE, true, true),
    (RECREATE, false, true),
    // Part of how the controllers work; upstream has these switched on, too.
    ("StaleControllerConsistencyStatefulSet", true, false),
    ("StatefulSetSemanticRevisionComparison", true, false),
];

const MAX_UNAVAILABLE: &str = "MaxUnavailableStatefulSet";
const RECREATE: &str = "StatefulSetRecreateStrategy";

/// What is switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FeatureGates {
    max_unavailable: bool,
    recreate: bool,
}

impl Default for FeatureGates {
    fn default() -> Self {
        Self {
            max_unavailable: true,
            recreate: false,
        }
    }
}

impl FeatureGates {
    /// Reads `Name=true,Other=false`; what is wrong with it goes to `errors`.
    pub(crate) fn parse(text: &str, errors: &mut Vec<String>) -> Self {
        let mut gates = Self::default();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            if let Err(problem) = gates.set(entry) {
                errors.push(format!("feature-gates {entry:?}: {problem}"));
            }
        }
        gates
    }

    fn set(&mut self, entry: &str) -> Result<(), String> {
        let (name, value) = entry.split_once('=').ok_or("must look like Name=true")?;
        let value = match value {
            "true" => true,
            "false" => false,
            _ => return Err("must be true or false".to_owned()),
        };
        let Some((_, default, is_free)) = GATES.iter().find(|(known, _, _)| *known == name) else {
            let known: Vec<&str> = GATES.iter().map(|(known, _, _)| *known).collect();
            return Err(format!("is not known; known are {}", known.join(", ")));
        };
        match name {
            MAX_UNAVAILABLE => self.max_unavailable = value,
            RECREATE => self.recreate = value,
            _ if !is_free && value != *default => return Err(format!("is {default} and cannot be changed")),
            _ => {}
        }
        Ok(())
    }

    /// What they mean to the controllers.
    pub(crate) fn of_controllers(self) -> controllers::Gates {
        controllers::Gates {
            max_unavailable: self.max_unavailable,
            recreate: self.recreate,
            ..controllers::Gates::default()
        }
    }

    /// What they mean to the API server.
    pub(crate) fn of_api(self) -> api::gates::Gates {
        api::gates::Gates {
            max_unavailable: self.max_unavailable,
            recreate: self.recreate,
        }
    }
}

impl Display for FeatureGates {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{MAX_UNAVAILABLE}={},{RECREATE}={}",
            self.max_unavailable, self.recreate
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (FeatureGates, Vec<String>) {
        let mut errors = Vec::new();
        (FeatureGates::parse(text, &mut errors), errors)
    }

    #[test]
    fn a0_3_gates_have_upstream_s_names_and_defaults() {
        assert_eq!(
            parse("").0.to_string(),
            "MaxUnavailableStatefulSet=true,StatefulSetRecreateStrategy=false"
        );
        let text = "StatefulSetRecreateStrategy=true, MaxUnavailableStatefulSet=false";
        let (gates, errors) = parse(text);
        assert!(errors.is_empty());
        assert!(gates.of_controllers().recreate && !gates.of_controllers().max_unavailable);
        assert!(gates.of_api().recreate && !gates.of_api().max_unavailable);
        assert_eq!(parse(&gates.to_string()).0, gates);
    }

    #[test]
    fn what_cannot_be_switched_is_refused() {
        for (text, problem) in [
            ("Magic=true", "is not known"),
            ("StatefulSetRecreateStrategy", "must look like"),
            ("StatefulSetRecreateStrategy=yes", "must be true or false"),
            (
                "StatefulSetSemanticRevisionComparison=false",
                "is true and cannot be changed",
            ),
        ] {
            let (_, errors) = parse(text);
            assert!(errors.len() == 1 && errors[0].contains(problem), "{errors:?}");
        }
        assert!(parse("StaleControllerConsistencyStatefulSet=true").1.is_empty());
    }
}
