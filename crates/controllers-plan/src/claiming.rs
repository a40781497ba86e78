//! Which objects are a controller's: those it controls, those of nobody that it adopts, those it lets go.
//!
//! The rule is one for all kinds: what a controller controls and selects is its own; what it controls and does not
//! select any more it lets go; what it selects and nobody controls it adopts, after asking the server whether it still
//! lives itself. A controller that is being deleted neither adopts nor lets go.

use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use api::k8s::{Metadata, Resource};
use serde_json::json;

use crate::selection::Selection;
use crate::{Action, Guard, Kind, Plan, Reason, Step, Target, controller_of, is_terminating, owner_reference};

/// A controller: what its kind is and who it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner<'a> {
    pub(crate) kind: Kind,
    pub(crate) meta: &'a ObjectMeta,
    /// A finalizer that its pods have as long as they are its own.
    pub(crate) pod_finalizer: Option<&'static str>,
}

/// The objects in sight of a controller, sorted by what they are to it.
#[derive(Debug)]
pub(crate) struct Claim<'a, T> {
    /// Its own.
    pub(crate) own: Vec<&'a T>,
    /// What makes others its own, and lets go of its own.
    pub(crate) changes: Vec<Action>,
    /// Why.
    pub(crate) because: Vec<Reason>,
}

impl<'a> Owner<'a> {
    /// The owner that an object is.
    pub(crate) fn of<T: Resource + Metadata<Ty = ObjectMeta>>(object: &'a T) -> Self {
        Self {
            kind: Kind::of::<T>(),
            meta: object.metadata(),
            pod_finalizer: None,
        }
    }

    /// Its uid.
    pub(crate) fn uid(&self) -> &'a str {
        self.meta.uid.as_deref().unwrap_or_default()
    }

    /// Its name.
    pub(crate) fn name(&self) -> &'a str {
        self.meta.name.as_deref().unwrap_or_default()
    }

    /// It, as a target.
    pub(crate) fn target(&self) -> Target {
        Target::from_meta(self.kind, self.meta)
    }

    /// Sorts the objects in sight.
    pub(crate) fn claim<T: Resource + Metadata<Ty = ObjectMeta>>(
        &self,
        selection: Selection<'_>,
        objects: &[&'a T],
    ) -> Claim<'a, T> {
        let mut claim = Claim {
            own: Vec::new(),
            changes: Vec::new(),
            because: Vec::new(),
        };
        let deleting = is_terminating(self.meta);
        for &object in objects {
            let meta = object.metadata();
            let fits = selection.selects(meta.labels.as_ref());
            let name = meta.name.as_deref().unwrap_or_default();
            match controller_of(meta) {
                Some(owner) if owner.uid == self.uid() && fits => claim.own.push(object),
                Some(owner) if owner.uid == self.uid() && !deleting => {
                    claim.changes.push(self.release(Target::of(object), meta));
                    let message = format!("{name} is released by {}: its labels are not selected", self.name());
                    claim.because.push(Reason::acts(name, "Releases", message));
                }
                None if fits && !deleting && !is_terminating(meta) => {
                    claim.changes.push(self.adopt(Target::of(object), meta));
                    let message = format!("{name} is adopted by {}", self.name());
                    claim.because.push(Reason::acts(name, "Adopts", message));
                }
                Some(_) | None => {}
            }
        }
        claim
    }

    fn adopt(&self, orphan: Target, meta: &ObjectMeta) -> Action {
        let mut owners = meta.owner_references.clone().unwrap_or_default();
        owners.retain(|owner| owner.uid != self.uid());
        owners.push(owner_reference(self.kind, self.meta));
        let mut patch = json!({ "metadata": { "ownerReferences": owners } });
        if let Some(finalizer) = self.pod_finalizer {
            let mut finalizers = meta.finalizers.clone().unwrap_or_default();
            finalizers.retain(|known| known != finalizer);
            finalizers.push(finalizer.to_owned());
            patch["metadata"]["finalizers"] = json!(finalizers);
        }
        Action::patch(orphan, patch).guarded(Guard::Alive(self.target()))
    }

    fn release(&self, object: Target, meta: &ObjectMeta) -> Action {
        let mut owners = meta.owner_references.clone().unwrap_or_default();
        owners.retain(|owner| owner.uid != self.uid());
        let mut patch = json!({ "metadata": { "ownerReferences": owners } });
        if let Some(finalizer) = self.pod_finalizer {
            let mut finalizers = meta.finalizers.clone().unwrap_or_default();
            finalizers.retain(|known| known != finalizer);
            patch["metadata"]["finalizers"] = json!(finalizers);
        }
        Action::patch(object, patch)
    }
}

impl<T> Claim<'_, T> {
    /// The plan that only adopts and releases, if there is anything of that: all else depends on how it ends.
    pub(crate) fn plan(&mut self) -> Option<Plan> {
        if self.changes.is_empty() {
            return None;
        }
        let chains = std::mem::take(&mut self.changes).into_iter().map(|action| vec![action]);
        Some(Plan {
            steps: vec![Step::Together(chains.collect())],
            because: std::mem::take(&mut self.because),
            ..Plan::default()
        })
    }
}
