//! Custom resources: kinds that are served because a CustomResourceDefinition says so.

/// What a definition says of one version of its resource, beyond what a row of the table can say.
#[derive(Debug)]
pub struct Version {
    /// The kind of lists, e.g. `CronTabList`.
    pub list_kind: &'static str,
}
