//! Volumes of CSI drivers are attached to the nodes whose pods need them, and detached when nobody does.
//!
//! All about one node is decided at once: its VolumeAttachments, and the list of attached volumes in its status. The
//! node agent and this controller keep each other from doing harm through that status: the agent writes that it uses a
//! volume (`volumesInUse`) and mounts it only if it then still reads it among those that are attached
//! (`volumesAttached`); the controller takes a volume from that list in a write that fails if the agent has written
//! anything since, and only then detaches it.
//!
//! A volume for one node is given to one: what other nodes have, and what they have been promised by the plan that is
//! just being carried out for them, keeps it from being attached here.

mod needs;
mod volume;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::k8s::api::core::v1::{AttachedVolume, Node, Pod, Taint};
use api::k8s::api::storage::v1::{VolumeAttachment, VolumeAttachmentSpec};
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::pods::name_of;
use crate::{Action, Event, EventType, Notice, Object, Plan, Reason, Step, Target, is_terminating, node_lifecycle};

pub use needs::{claims_of, needs_volumes};
pub use volume::{Volume, is_attached_first};

use crate::pod_garbage::OUT_OF_SERVICE;

/// On a node: its agent leaves attaching to a controller.
const MANAGED: &str = "volumes.kubernetes.io/controller-managed-attach-detach";

/// How long a node that is not ready may keep what nobody needs any more.
const UNMOUNT_MAX: SignedDuration = SignedDuration::from_mins(6);

/// How the names of volumes of CSI drivers begin in a node's status.
const CSI: &str = "kubernetes.io/csi/";

/// While another node only has a promise, nothing that is watched tells of its end.
const PROMISE: SignedDuration = SignedDuration::from_secs(1);

/// A volume that pods of the node need.
#[derive(Clone, Debug)]
pub struct Need {
    /// The volume.
    pub volume: Volume,
    /// The pods.
    pub pods: Vec<Arc<Pod>>,
    /// The other nodes that have it, or have been promised it.
    pub elsewhere: BTreeMap<String, Elsewhere>,
}

/// What another node has of a volume.
#[derive(Clone, Debug, Default)]
pub struct Elsewhere {
    /// Whether there is a VolumeAttachment already.
    pub is_made: bool,
    /// The pods there that need it.
    pub pods: Vec<Arc<Pod>>,
}

/// A VolumeAttachment of the node.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The object.
    pub object: Arc<VolumeAttachment>,
    /// Its volume, if the PersistentVolume is still there.
    pub volume: Option<Volume>,
}

/// All about one node.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Its name.
    pub name: String,
    /// The node; `None` if it is gone.
    pub node: Option<Arc<Node>>,
    /// What its pods need.
    pub needs: Vec<Need>,
    /// What there is of VolumeAttachments.
    pub attachments: Vec<Attachment>,
}

/// What is remembered of a node from one plan to the next. A new process begins without.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Volumes (by their unique names) that the last plan set out to attach.
    pub promised: BTreeSet<String>,
    /// Since when VolumeAttachments (by their uids) are needed by nobody.
    idle_since: BTreeMap<String, Timestamp>,
    /// What the node used when it was last seen.
    in_use: Option<BTreeSet<String>>,
    /// What pods have been told: by pod and VolumeAttachment, why that failed and when.
    told: BTreeSet<String>,
}

/// Decides what is attached to and detached from a node.
pub fn plan(seen: &Observed, memory: &mut Memory, now: Timestamp) -> Plan {
    let is_left_alone = seen.node.as_ref().is_some_and(|node| !is_managed(node));
    if is_left_alone || (seen.needs.is_empty() && seen.attachments.is_empty() && listed(seen).is_empty()) {
        *memory = Memory::default();
        return Plan::default();
    }
    let mut decision = Decision::of(seen, std::mem::take(memory), now);
    for need in &seen.needs {
        decision.attach(need);
    }
    for attachment in &seen.attachments {
        decision.detach_idle(attachment);
    }
    let (plan, remembered) = decision.finish();
    *memory = remembered;
    plan
}

fn is_managed(node: &Node) -> bool {
    let annotations = node.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(MANAGED)).map(String::as_str) == Some("true")
}

fn in_use(node: &Node) -> BTreeSet<String> {
    let in_use = node
        .status
        .iter()
        .flat_map(|status| status.volumes_in_use.iter().flatten());
    in_use.cloned().collect()
}

fn listed(seen: &Observed) -> BTreeSet<String> {
    let status = seen.node.iter().filter_map(|node| node.status.as_ref());
    let all = status.flat_map(|status| status.volumes_attached.iter().flatten());
    all.map(|volume| volume.name.clone())
        .filter(|name| name.starts_with(CSI))
        .collect()
}

fn taints(node: &Node) -> impl Iterator<Item = &Taint> {
    node.spec.iter().flat_map(|spec| spec.taints.iter().flatten())
}

/// A plan in the making.
struct Decision<'a> {
    seen: &'a Observed,
    now: Timestamp,
    old: Memory,
    new: Memory,
    /// What the node's status is to list, by unique names.
    attached: BTreeSet<String>,
    chains: Vec<Vec<Action>>,
    plan: Plan,
}

impl<'a> Decision<'a> {
    fn of(seen: &'a Observed, old: Memory, now: Timestamp) -> Self {
        let used = seen.node.as_deref().map(in_use).or_else(|| old.in_use.clone());
        Self {
            seen,
            now,
            new: Memory {
                in_use: used,
                ..Memory::default()
            },
            old,
            attached: BTreeSet::new(),
            chains: Vec::new(),
            plan: Plan::default(),
        }
    }

    /// Sees to it that a volume that is needed is attached.
    fn attach(&mut self, need: &Need) {
        let name = need.volume.attachment_name(&self.seen.name);
        let known = self
            .seen
            .attachments
            .iter()
            .find(|attachment| name_of(&attachment.object.metadata) == name);
        match known {
            Some(known) => self.follow(need, &name, &known.object),
            None => self.begin(need, name),
        }
    }

    /// What there is already of a VolumeAttachment is waited for.
    fn follow(&mut self, need: &Need, name: &str, object: &VolumeAttachment) {
        let pv = &need.volume.name;
        let status = object.status.as_ref();
        if is_terminating(&object.metadata) {
            let message = format!("volume {pv} is still being detached from {}", self.seen.name);
            return self.wait(pv, "Detaching", name, message);
        }
        if status.is_some_and(|status| status.attached) {
            let unique = need.volume.unique_name();
            if !listed(self.seen).contains(&unique) {
                let message = format!("AttachVolume.Attach succeeded for volume \"{pv}\" ");
                self.tell(&need.pods, EventType::Normal, "SuccessfulAttachVolume", &message);
            }
            self.attached.insert(unique);
            return;
        }
        self.wait(
            pv,
            "Attaching",
            name,
            format!("volume {pv} is being attached to {}", self.seen.name),
        );
        let error = status.and_then(|status| status.attach_error.as_ref());
        if let Some(error) = error {
            let when = error.time.as_ref().map(|time| time.0.to_string()).unwrap_or_default();
            let why = error.message.as_deref().unwrap_or_default();
            let message = format!("AttachVolume.Attach failed for volume \"{pv}\" : {why}");
            self.complain(&need.pods, &format!("{name} {when}"), &message);
        }
    }

    /// A volume is attached unless that would take it from another node.
    fn begin(&mut self, need: &Need, name: String) {
        let volume = &need.volume;
        if self.seen.node.is_none() {
            let message = format!(
                "volume {} is not attached: there is no node {}",
                volume.name, self.seen.name
            );
            return self.wait(&volume.name, "NodeGone", &self.seen.name, message);
        }
        if !volume.is_shareable && !need.elsewhere.is_empty() {
            return self.refuse(need, &name);
        }
        let object = VolumeAttachment {
            metadata: ObjectMeta {
                name: Some(name),
                ..ObjectMeta::default()
            },
            spec: attachment_spec(volume, &self.seen.name),
            status: None,
        };
        let message = format!("pods on {} need volume {}", self.seen.name, volume.name);
        self.plan.because.push(Reason::acts(&volume.name, "Attach", message));
        self.new.promised.insert(volume.unique_name());
        self.chains.push(vec![Action::create(Object::of(&object))]);
    }

    fn refuse(&mut self, need: &Need, name: &str) {
        let pv = &need.volume.name;
        let others: Vec<&str> = need.elsewhere.keys().map(String::as_str).collect();
        let message = format!("volume {pv} waits to be detached from {}", others.join(", "));
        self.wait(pv, "MultiAttach", others[0], message);
        if need.elsewhere.values().any(|elsewhere| !elsewhere.is_made) {
            self.again_after(PROMISE);
            return;
        }
        let users: Vec<&Arc<Pod>> = need.elsewhere.values().flat_map(|elsewhere| &elsewhere.pods).collect();
        for pod in &need.pods {
            let message = format!("Multi-Attach error for volume \"{pv}\" {}", in_the_way(pod, &users));
            self.complain(std::slice::from_ref(pod), name, &message);
        }
    }

    /// Detaches what nobody needs any more, unless the node may still use it.
    fn detach_idle(&mut self, attachment: &Attachment) {
        let meta = &attachment.object.metadata;
        let name = name_of(meta);
        let is_needed = || {
            let mut needs = self.seen.needs.iter();
            needs.any(|need| need.volume.attachment_name(&self.seen.name) == name)
        };
        let is_ours = match &attachment.volume {
            Some(volume) => volume.attachment_name(&self.seen.name) == name,
            None => volume::is_attachment_name(name),
        };
        if !is_ours || is_terminating(meta) || is_needed() {
            return;
        }
        let uid = meta.uid.clone().unwrap_or_default();
        let since = self.old.idle_since.get(&uid).copied().unwrap_or(self.now);
        self.new.idle_since.insert(uid, since);
        let used = self.unique_name_in_use(attachment);
        let pv = attachment
            .volume
            .as_ref()
            .map_or(name, |volume| &volume.name)
            .to_owned();
        let is_held = self.new.in_use.is_none() || used.is_some();
        if is_held && !self.may_force(since) {
            if attachment.object.status.as_ref().is_some_and(|status| status.attached) {
                self.attached.extend(used);
            }
            let message = format!("volume {pv} is still in use on {}", self.seen.name);
            return self.wait(&pv, "InUse", &self.seen.name, message);
        }
        let message = format!("nothing on {} needs volume {pv}", self.seen.name);
        self.plan.because.push(Reason::acts(&pv, "Detach", message));
        let target = Target::of(&*attachment.object);
        self.chains.push(vec![Action::delete(target)]);
    }

    /// The name by which the node says that it uses the volume of an attachment, if it says so.
    fn unique_name_in_use(&self, attachment: &Attachment) -> Option<String> {
        let in_use = self.new.in_use.as_ref()?;
        let name = name_of(&attachment.object.metadata);
        let is_it = |unique: &&String| match &attachment.volume {
            Some(volume) => volume.unique_name() == **unique,
            None => volume::attachment_of_unique(unique, &self.seen.name).as_deref() == Some(name),
        };
        in_use.iter().find(is_it).cloned()
    }

    /// Whether a node has had its time, or people say that it uses nothing any more.
    fn may_force(&mut self, since: Timestamp) -> bool {
        let node = self.seen.node.as_deref();
        if node.is_some_and(|node| taints(node).any(|taint| taint.key == OUT_OF_SERVICE)) {
            return true;
        }
        if node.is_some_and(node_lifecycle::is_ready) {
            return false;
        }
        let left = UNMOUNT_MAX.saturating_sub(self.now.duration_since(since));
        if left.is_positive() {
            self.again_after(left);
        }
        !left.is_positive()
    }

    fn again_after(&mut self, pause: SignedDuration) {
        let at = self.now.checked_add(pause).unwrap_or(Timestamp::MAX);
        let soonest = self.plan.again_at.map_or(at, |known| known.min(at));
        self.plan.again_at = Some(soonest);
    }

    fn wait(&mut self, pv: &str, reason: &'static str, waits_for: &str, message: String) {
        self.plan.because.push(Reason::waits(pv, reason, waits_for, message));
    }

    /// Tells pods why they have to wait, once for each occasion.
    fn complain(&mut self, pods: &[Arc<Pod>], occasion: &str, message: &str) {
        for pod in pods {
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            let what = format!("{uid} {occasion} {message}");
            if !self.old.told.contains(&what) {
                self.tell(
                    std::slice::from_ref(pod),
                    EventType::Warning,
                    "FailedAttachVolume",
                    message,
                );
            }
            self.new.told.insert(what);
        }
    }

    fn tell(&mut self, pods: &[Arc<Pod>], event_type: EventType, reason: &'static str, message: &str) {
        self.plan.events.extend(pods.iter().map(|pod| Event {
            about: Target::of(&**pod),
            event_type,
            notice: Notice {
                reason,
                message: message.to_owned(),
            },
        }));
    }

    /// The list in the node's status comes first: what it does not name is not mounted any more.
    fn finish(mut self) -> (Plan, Memory) {
        if let Some(node) = self.seen.node.as_deref().filter(|_| listed(self.seen) != self.attached) {
            self.plan.steps.push(Step::One(list(node, &self.attached)));
        }
        if !self.chains.is_empty() {
            self.plan.steps.push(Step::Together(self.chains));
        }
        (self.plan, self.new)
    }
}

/// Writes what is attached; volumes of other sorts are left as they are.
fn list(node: &Node, attached: &BTreeSet<String>) -> Action {
    let known = node
        .status
        .iter()
        .flat_map(|status| status.volumes_attached.iter().flatten());
    let others = known.filter(|volume| !volume.name.starts_with(CSI)).cloned();
    let ours = attached.iter().map(|name| AttachedVolume {
        name: name.clone(),
        device_path: String::new(),
    });
    let all: Vec<AttachedVolume> = others.chain(ours).collect();
    Action::patch_status(Target::of(node), json!({ "status": { "volumesAttached": all } }))
}

fn attachment_spec(volume: &Volume, node: &str) -> VolumeAttachmentSpec {
    let mut spec = VolumeAttachmentSpec {
        attacher: volume.driver.clone(),
        node_name: node.to_owned(),
        ..VolumeAttachmentSpec::default()
    };
    spec.source.persistent_volume_name = Some(volume.name.clone());
    spec
}

/// Who has the volume that a pod waits for; pods of other namespaces are not named.
fn in_the_way(pod: &Pod, users: &[&Arc<Pod>]) -> String {
    if users.is_empty() {
        return "Volume is already exclusively attached to one node and can't be attached to another".to_owned();
    }
    let is_near = |user: &&&Arc<Pod>| user.metadata.namespace == pod.metadata.namespace;
    let (near, far): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) = users.iter().partition(is_near);
    let names: Vec<&str> = near.iter().map(|user| name_of(&user.metadata)).collect();
    match (names.join(", "), far.len()) {
        (names, 0) => format!("Volume is already used by pod(s) {names}"),
        (names, far) if names.is_empty() => {
            format!("Volume is already used by {far} pod(s) in different namespaces")
        }
        (names, far) => format!("Volume is already used by pod(s) {names} and {far} pod(s) in different namespaces"),
    }
}

#[cfg(test)]
mod tests;
