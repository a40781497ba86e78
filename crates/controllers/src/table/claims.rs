//! The row of claims.

use controllers_plan::Plan;

use super::Row;

pub(crate) fn row() -> Row {
    Row {
        name: "persistentvolume-binder-controller",
        watches: Vec::new(),
        decide: Box::new(|_, _, _| Plan::default()),
    }
}
