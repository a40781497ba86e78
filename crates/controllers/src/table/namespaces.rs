//! The row of namespaces.

use controllers_plan::Plan;

use super::Row;

pub(crate) fn row() -> Row {
    Row {
        name: "namespace-controller",
        watches: Vec::new(),
        decide: Box::new(|_, _, _| Plan::default()),
    }
}
