//! The row of endpoints.

use controllers_plan::Plan;

use super::Row;

pub(crate) fn row() -> Row {
    Row {
        name: "endpointslice-controller",
        watches: Vec::new(),
        decide: Box::new(|_, _, _| Plan::default()),
    }
}
