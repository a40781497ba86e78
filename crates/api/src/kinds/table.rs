//! The rows: facts of upstream 1.36, in the order of its discovery documents; `acted_on` is ours.

use super::Kind;
use std::sync::LazyLock;

/// What most kinds have in common; every row says only where it differs.
pub(super) fn row(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    schema: &'static str,
) -> Kind {
    Kind {
        group,
        version: "v1",
        kind,
        plural,
        singular,
        short_names: &[],
        categories: &[],
        namespaced: true,
        schema,
        storage_group: group,
        storage_version: "v1",
        has_status: false,
        has_scale: false,
        has_generation: false,
        create_on_update: false,
        unconditional_update: true,
        delete_returns_object: false,
        delete_collection: true,
        acted_on: false,
        custom: None,
    }
}

/// All kinds.
pub(super) static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    let mut all = kinds();
    all.extend(super::configuration::kinds());
    all
});

#[rustfmt::skip] // A table has no indentation.
#[expect(clippy::too_many_lines, reason = "a table is one value")]
fn kinds() -> Vec<Kind> { vec![
    Kind {
        short_names: &["cm"],
        acted_on: true,
        ..row(
            "",
            "ConfigMap",
            "configmaps",
            "configmap",
            "io.k8s.api.core.v1.ConfigMap",
        )
    },
    Kind {
        short_names: &["ep"],
        create_on_update: true,
        acted_on: true,
        ..row(
            "",
            "Endpoints",
            "endpoints",
            "endpoints",
            "io.k8s.api.core.v1.Endpoints",
        )
    },
    Kind {
        short_names: &["ev"],
        create_on_update: true,
        acted_on: true,
        ..row("", "Event", "events", "event", "io.k8s.api.core.v1.Event")
    },
    Kind {
        short_names: &["limits"],
        create_on_update: true,
        acted_on: true,
        ..row(
            "",
            "LimitRange",
            "limitranges",
            "limitrange",
            "io.k8s.api.core.v1.LimitRange",
        )
    },
    Kind {
        short_names: &["ns"],
        namespaced: false,
        has_status: true,
        delete_returns_object: true,
        delete_collection: false,
        acted_on: true,
        ..row(
            "",
            "Namespace",
            "namespaces",
            "namespace",
            "io.k8s.api.core.v1.Namespace",
        )
    },
    Kind {
        short_names: &["no"],
        namespaced: false,
        has_status: true,
        acted_on: true,
        ..row("", "Node", "nodes", "node", "io.k8s.api.core.v1.Node")
    },
    Kind {
        short_names: &["pvc"],
        has_status: true,
        delete_returns_object: true,
        acted_on: true,
        ..row(
            "",
            "PersistentVolumeClaim",
            "persistentvolumeclaims",
            "persistentvolumeclaim",
            "io.k8s.api.core.v1.PersistentVolumeClaim",
        )
    },
    Kind {
        short_names: &["pv"],
        namespaced: false,
        has_status: true,
        delete_returns_object: true,
        acted_on: true,
        ..row(
            "",
            "PersistentVolume",
            "persistentvolumes",
            "persistentvolume",
            "io.k8s.api.core.v1.PersistentVolume",
        )
    },
    Kind {
        short_names: &["po"],
        categories: &["all"],
        has_status: true,
        has_generation: true,
        delete_returns_object: true,
        acted_on: true,
        ..row("", "Pod", "pods", "pod", "io.k8s.api.core.v1.Pod")
    },
    Kind {
        delete_returns_object: true,
        ..row(
            "",
            "PodTemplate",
            "podtemplates",
            "podtemplate",
            "io.k8s.api.core.v1.PodTemplate",
        )
    },
    Kind {
        short_names: &["rc"],
        categories: &["all"],
        has_status: true,
        has_scale: true,
        has_generation: true,
        acted_on: true,
        ..row(
            "",
            "ReplicationController",
            "replicationcontrollers",
            "replicationcontroller",
            "io.k8s.api.core.v1.ReplicationController",
        )
    },
    Kind {
        short_names: &["quota"],
        acted_on: true,
        has_status: true,
        delete_returns_object: true,
        ..row(
            "",
            "ResourceQuota",
            "resourcequotas",
            "resourcequota",
            "io.k8s.api.core.v1.ResourceQuota",
        )
    },
    Kind {
        acted_on: true,
        ..row("", "Secret", "secrets", "secret", "io.k8s.api.core.v1.Secret")
    },
    Kind {
        short_names: &["sa"],
        delete_returns_object: true,
        acted_on: true,
        ..row(
            "",
            "ServiceAccount",
            "serviceaccounts",
            "serviceaccount",
            "io.k8s.api.core.v1.ServiceAccount",
        )
    },
    Kind {
        short_names: &["svc"],
        categories: &["all"],
        has_status: true,
        create_on_update: true,
        delete_returns_object: true,
        acted_on: true,
        ..row("", "Service", "services", "service", "io.k8s.api.core.v1.Service")
    },
    Kind {
        acted_on: true,
        ..row(
            "apps",
            "ControllerRevision",
            "controllerrevisions",
            "controllerrevision",
            "io.k8s.api.apps.v1.ControllerRevision",
        )
    },
    Kind {
        short_names: &["ds"],
        categories: &["all"],
        has_status: true,
        has_generation: true,
        acted_on: true,
        ..row(
            "apps",
            "DaemonSet",
            "daemonsets",
            "daemonset",
            "io.k8s.api.apps.v1.DaemonSet",
        )
    },
    Kind {
        short_names: &["deploy"],
        categories: &["all"],
        has_status: true,
        has_scale: true,
        has_generation: true,
        acted_on: true,
        ..row(
            "apps",
            "Deployment",
            "deployments",
            "deployment",
            "io.k8s.api.apps.v1.Deployment",
        )
    },
    Kind {
        short_names: &["rs"],
        categories: &["all"],
        has_status: true,
        has_scale: true,
        has_generation: true,
        acted_on: true,
        ..row(
            "apps",
            "ReplicaSet",
            "replicasets",
            "replicaset",
            "io.k8s.api.apps.v1.ReplicaSet",
        )
    },
    Kind {
        short_names: &["sts"],
        categories: &["all"],
        has_status: true,
        has_scale: true,
        has_generation: true,
        acted_on: true,
        ..row(
            "apps",
            "StatefulSet",
            "statefulsets",
            "statefulset",
            "io.k8s.api.apps.v1.StatefulSet",
        )
    },
    Kind {
        short_names: &["ev"],
        storage_group: "",
        create_on_update: true,
        acted_on: true,
        ..row(
            "events.k8s.io",
            "Event",
            "events",
            "event",
            "io.k8s.api.events.v1.Event",
        )
    },
    Kind {
        short_names: &["cj"],
        categories: &["all"],
        has_status: true,
        has_generation: true,
        acted_on: true,
        ..row("batch", "CronJob", "cronjobs", "cronjob", "io.k8s.api.batch.v1.CronJob")
    },
    Kind {
        categories: &["all"],
        has_status: true,
        has_generation: true,
        acted_on: true,
        ..row("batch", "Job", "jobs", "job", "io.k8s.api.batch.v1.Job")
    },
    Kind {
        namespaced: false,
        has_generation: true,
        ..row(
            "networking.k8s.io",
            "IngressClass",
            "ingressclasses",
            "ingressclass",
            "io.k8s.api.networking.v1.IngressClass",
        )
    },
    Kind {
        short_names: &["ing"],
        has_status: true,
        has_generation: true,
        ..row(
            "networking.k8s.io",
            "Ingress",
            "ingresses",
            "ingress",
            "io.k8s.api.networking.v1.Ingress",
        )
    },
    Kind {
        short_names: &["netpol"],
        has_generation: true,
        ..row(
            "networking.k8s.io",
            "NetworkPolicy",
            "networkpolicies",
            "networkpolicy",
            "io.k8s.api.networking.v1.NetworkPolicy",
        )
    },
    Kind {
        short_names: &["pdb"],
        has_status: true,
        has_generation: true,
        unconditional_update: false,
        acted_on: true,
        ..row(
            "policy",
            "PodDisruptionBudget",
            "poddisruptionbudgets",
            "poddisruptionbudget",
            "io.k8s.api.policy.v1.PodDisruptionBudget",
        )
    },
    Kind {
        namespaced: false,
        create_on_update: true,
        acted_on: true,
        ..row(
            "rbac.authorization.k8s.io",
            "ClusterRoleBinding",
            "clusterrolebindings",
            "clusterrolebinding",
            "io.k8s.api.rbac.v1.ClusterRoleBinding",
        )
    },
    Kind {
        namespaced: false,
        create_on_update: true,
        acted_on: true,
        ..row(
            "rbac.authorization.k8s.io",
            "ClusterRole",
            "clusterroles",
            "clusterrole",
            "io.k8s.api.rbac.v1.ClusterRole",
        )
    },
    Kind {
        create_on_update: true,
        acted_on: true,
        ..row(
            "rbac.authorization.k8s.io",
            "RoleBinding",
            "rolebindings",
            "rolebinding",
            "io.k8s.api.rbac.v1.RoleBinding",
        )
    },
    Kind {
        create_on_update: true,
        acted_on: true,
        ..row(
            "rbac.authorization.k8s.io",
            "Role",
            "roles",
            "role",
            "io.k8s.api.rbac.v1.Role",
        )
    },
    Kind {
        namespaced: false,
        unconditional_update: false,
        acted_on: true,
        delete_returns_object: true,
        ..row(
            "storage.k8s.io",
            "CSIDriver",
            "csidrivers",
            "csidriver",
            "io.k8s.api.storage.v1.CSIDriver",
        )
    },
    Kind {
        namespaced: false,
        unconditional_update: false,
        acted_on: true,
        delete_returns_object: true,
        ..row(
            "storage.k8s.io",
            "CSINode",
            "csinodes",
            "csinode",
            "io.k8s.api.storage.v1.CSINode",
        )
    },
    Kind {
        unconditional_update: false,
        ..row(
            "storage.k8s.io",
            "CSIStorageCapacity",
            "csistoragecapacities",
            "csistoragecapacity",
            "io.k8s.api.storage.v1.CSIStorageCapacity",
        )
    },
    Kind {
        short_names: &["sc"],
        namespaced: false,
        delete_returns_object: true,
        acted_on: true,
        ..row(
            "storage.k8s.io",
            "StorageClass",
            "storageclasses",
            "storageclass",
            "io.k8s.api.storage.v1.StorageClass",
        )
    },
    Kind {
        namespaced: false,
        has_status: true,
        unconditional_update: false,
        delete_returns_object: true,
        acted_on: true,
        ..row(
            "storage.k8s.io",
            "VolumeAttachment",
            "volumeattachments",
            "volumeattachment",
            "io.k8s.api.storage.v1.VolumeAttachment",
        )
    },
    Kind {
        short_names: &["pc"],
        namespaced: false,
        has_generation: true,
        acted_on: true,
        ..row(
            "scheduling.k8s.io",
            "PriorityClass",
            "priorityclasses",
            "priorityclass",
            "io.k8s.api.scheduling.v1.PriorityClass",
        )
    },
    Kind {
        create_on_update: true,
        unconditional_update: false,
        acted_on: true,
        ..row(
            "coordination.k8s.io",
            "Lease",
            "leases",
            "lease",
            "io.k8s.api.coordination.v1.Lease",
        )
    },
    Kind {
        has_generation: true,
        acted_on: true,
        ..row(
            "discovery.k8s.io",
            "EndpointSlice",
            "endpointslices",
            "endpointslice",
            "io.k8s.api.discovery.v1.EndpointSlice",
        )
    },
    Kind {
        short_names: &["crd", "crds"],
        categories: &["api-extensions"],
        namespaced: false,
        has_status: true,
        has_generation: true,
        unconditional_update: false,
        acted_on: true,
        ..row(
            "apiextensions.k8s.io",
            "CustomResourceDefinition",
            "customresourcedefinitions",
            "customresourcedefinition",
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
        )
    },
]}
