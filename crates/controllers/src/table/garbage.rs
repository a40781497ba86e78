//! The row of garbage.

use controllers_plan::Plan;

use super::Row;

pub(crate) fn row() -> Row {
    Row {
        name: "garbage-collector-controller",
        watches: Vec::new(),
        decide: Box::new(|_, _, _| Plan::default()),
    }
}
