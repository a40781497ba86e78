//! Which columns each kind has: name, type and priority (1: only with `-o wide`).

use crate::kinds::Kind;

pub(super) type Column = (&'static str, &'static str, u8);

pub(super) const NAME: Column = ("Name", "string", 0);
const AGE: Column = ("Age", "string", 0);
const CONTAINERS: Column = ("Containers", "string", 1);
const IMAGES: Column = ("Images", "string", 1);
const SELECTOR: Column = ("Selector", "string", 1);

pub(super) const fn text(name: &'static str) -> Column {
    (name, "string", 0)
}

const fn wide(name: &'static str) -> Column {
    (name, "string", 1)
}

pub(super) const fn number(name: &'static str) -> Column {
    (name, "integer", 0)
}

const fn boolean(name: &'static str) -> Column {
    (name, "boolean", 0)
}

/// The columns of a kind.
pub(super) fn of(kind: &Kind) -> Vec<Column> {
    if let Some(columns) = super::computed::columns(kind) {
        return columns;
    }
    match kind.group {
        "" => core(kind.kind),
        "apps" | "batch" | "policy" => workloads(kind.kind),
        "storage.k8s.io" => storage(kind.kind),
        _ => others(kind),
    }
}

fn core(kind: &str) -> Vec<Column> {
    match kind {
        "Pod" => vec![
            NAME,
            text("Ready"),
            text("Status"),
            text("Restarts"),
            AGE,
            wide("IP"),
            wide("Node"),
            wide("Nominated Node"),
            wide("Readiness Gates"),
        ],
        "PodTemplate" => vec![NAME, text("Containers"), text("Images"), text("Pod Labels")],
        "ReplicationController" => REPLICAS.to_vec(),
        "Service" => {
            vec![
                NAME,
                text("Type"),
                text("Cluster-IP"),
                text("External-IP"),
                text("Port(s)"),
                AGE,
                SELECTOR,
            ]
        }
        "Endpoints" => vec![NAME, text("Endpoints"), AGE],
        "Node" => vec![
            NAME,
            text("Status"),
            text("Roles"),
            AGE,
            text("Version"),
            wide("Internal-IP"),
            wide("External-IP"),
            wide("OS-Image"),
            wide("Kernel-Version"),
            wide("Container-Runtime"),
        ],
        "Event" => EVENT.to_vec(),
        "Namespace" => vec![NAME, text("Status"), AGE],
        "Secret" => vec![NAME, text("Type"), number("Data"), AGE],
        "ServiceAccount" => vec![NAME, number("Secrets"), AGE],
        "ConfigMap" => vec![NAME, text("Data"), AGE],
        "ResourceQuota" => vec![NAME, text("Request"), text("Limit"), AGE],
        "PersistentVolume" => vec![
            NAME,
            text("Capacity"),
            text("Access Modes"),
            text("Reclaim Policy"),
            text("Status"),
            text("Claim"),
            text("StorageClass"),
            text("VolumeAttributesClass"),
            text("Reason"),
            AGE,
            wide("VolumeMode"),
        ],
        "PersistentVolumeClaim" => vec![
            NAME,
            text("Status"),
            text("Volume"),
            text("Capacity"),
            text("Access Modes"),
            text("StorageClass"),
            text("VolumeAttributesClass"),
            AGE,
            wide("VolumeMode"),
        ],
        _ => PLAIN.to_vec(),
    }
}

/// What upstream shows of kinds that it has no columns for.
const PLAIN: &[Column] = &[NAME, ("Created At", "date", 0)];

const REPLICAS: &[Column] = &[
    NAME,
    number("Desired"),
    number("Current"),
    number("Ready"),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

const EVENT: &[Column] = &[
    text("Last Seen"),
    text("Type"),
    text("Reason"),
    text("Object"),
    wide("Subobject"),
    wide("Source"),
    text("Message"),
    wide("First Seen"),
    ("Count", "string", 1),
    ("Name", "string", 1),
];

fn workloads(kind: &str) -> Vec<Column> {
    match kind {
        "StatefulSet" => vec![NAME, text("Ready"), AGE, CONTAINERS, IMAGES],
        "ReplicaSet" => REPLICAS.to_vec(),
        "Deployment" => {
            vec![
                NAME,
                text("Ready"),
                text("Up-to-date"),
                text("Available"),
                AGE,
                CONTAINERS,
                IMAGES,
                SELECTOR,
            ]
        }
        "DaemonSet" => vec![
            NAME,
            number("Desired"),
            number("Current"),
            number("Ready"),
            number("Up-to-date"),
            number("Available"),
            text("Node Selector"),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        "ControllerRevision" => vec![NAME, text("Controller"), text("Revision"), AGE],
        "Job" => {
            vec![
                NAME,
                text("Status"),
                text("Completions"),
                text("Duration"),
                AGE,
                CONTAINERS,
                IMAGES,
                SELECTOR,
            ]
        }
        "CronJob" => vec![
            NAME,
            text("Schedule"),
            text("Timezone"),
            boolean("Suspend"),
            number("Active"),
            text("Last Schedule"),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        "PodDisruptionBudget" => {
            vec![
                NAME,
                text("Min Available"),
                text("Max Unavailable"),
                number("Allowed Disruptions"),
                AGE,
            ]
        }
        _ => PLAIN.to_vec(),
    }
}

fn storage(kind: &str) -> Vec<Column> {
    match kind {
        "StorageClass" => vec![
            NAME,
            text("Provisioner"),
            text("ReclaimPolicy"),
            text("VolumeBindingMode"),
            text("AllowVolumeExpansion"),
            AGE,
        ],
        "CSIDriver" => vec![
            NAME,
            boolean("AttachRequired"),
            boolean("PodInfoOnMount"),
            boolean("StorageCapacity"),
            text("TokenRequests"),
            boolean("RequiresRepublish"),
            text("Modes"),
            AGE,
        ],
        "CSINode" => vec![NAME, number("Drivers"), AGE],
        "CSIStorageCapacity" => vec![NAME, text("StorageClassName"), text("Capacity")],
        "VolumeAttachment" => vec![
            NAME,
            text("Attacher"),
            text("PV"),
            text("Node"),
            boolean("Attached"),
            AGE,
        ],
        "VolumeAttributesClass" => vec![NAME, text("DriverName"), AGE],
        _ => PLAIN.to_vec(),
    }
}

fn others(kind: &Kind) -> Vec<Column> {
    match kind.kind {
        "Event" => EVENT.to_vec(),
        "EndpointSlice" => vec![NAME, text("AddressType"), text("Ports"), text("Endpoints"), AGE],
        "NetworkPolicy" => vec![NAME, text("Pod-Selector"), AGE],
        "Ingress" => vec![NAME, text("Class"), text("Hosts"), text("Address"), text("Ports"), AGE],
        "IngressClass" => vec![NAME, text("Controller"), text("Parameters"), AGE],
        "Lease" => vec![NAME, text("Holder"), AGE],
        "PriorityClass" => vec![
            NAME,
            number("Value"),
            boolean("Global-Default"),
            AGE,
            text("PreemptionPolicy"),
        ],
        "RoleBinding" | "ClusterRoleBinding" => {
            vec![
                NAME,
                text("Role"),
                AGE,
                wide("Users"),
                wide("Groups"),
                wide("ServiceAccounts"),
            ]
        }
        _ => configuration(kind.kind),
    }
}

fn configuration(kind: &str) -> Vec<Column> {
    match kind {
        "HorizontalPodAutoscaler" => vec![
            NAME,
            text("Reference"),
            text("Targets"),
            text("MinPods"),
            text("MaxPods"),
            text("Replicas"),
            AGE,
        ],
        "CertificateSigningRequest" => vec![
            NAME,
            AGE,
            text("SignerName"),
            text("Requestor"),
            text("RequestedDuration"),
            text("Condition"),
        ],
        "IPAddress" => vec![NAME, text("ParentRef"), AGE],
        "ServiceCIDR" => vec![NAME, text("CIDRs"), AGE],
        "FlowSchema" => vec![
            NAME,
            text("PriorityLevel"),
            text("MatchingPrecedence"),
            text("DistinguisherMethod"),
            AGE,
            text("MissingPL"),
        ],
        "PriorityLevelConfiguration" => vec![
            NAME,
            text("Type"),
            text("NominalConcurrencyShares"),
            text("Queues"),
            text("HandSize"),
            text("QueueLengthLimit"),
            AGE,
        ],
        "ResourceClaim" => vec![NAME, text("State"), AGE],
        "ResourceSlice" => vec![NAME, text("Node"), text("Driver"), text("Pool"), AGE],
        "ResourceClaimTemplate" | "DeviceClass" => vec![NAME, AGE],
        "RuntimeClass" => vec![NAME, text("Handler"), AGE],
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => vec![NAME, number("Webhooks"), AGE],
        "ValidatingAdmissionPolicy" => vec![NAME, number("Validations"), text("ParamKind"), AGE],
        "MutatingAdmissionPolicy" => vec![NAME, number("Mutations"), text("ParamKind"), AGE],
        "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding" => {
            vec![NAME, text("PolicyName"), text("ParamRef"), AGE]
        }
        "APIService" => vec![NAME, text("Service"), text("Available"), AGE],
        _ => PLAIN.to_vec(),
    }
}
