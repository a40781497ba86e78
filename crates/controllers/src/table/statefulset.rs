//! The row of StatefulSets.

use controllers_plan::Plan;

use super::Row;
use crate::Config;

pub(crate) fn row(_config: &Config) -> Row {
    Row {
        name: "statefulset-controller",
        watches: Vec::new(),
        decide: Box::new(|_, _, _| Plan::default()),
    }
}
