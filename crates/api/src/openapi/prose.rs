//! Descriptions of types and fields, taken from k8s-openapi when a document is made; none is kept.

use crate::k8s::api::{
    admissionregistration::v1 as admission, apps::v1 as apps, authentication::v1 as authentication,
    autoscaling::v1 as autoscaling, autoscaling::v2 as autoscaling_v2, batch::v1 as batch,
    certificates::v1 as certificates, coordination::v1 as coordination, core::v1 as core, discovery::v1 as discovery,
    events::v1 as events, flowcontrol::v1 as flowcontrol, networking::v1 as networking, node::v1 as node,
    policy::v1 as policy, rbac::v1 as rbac, resource::v1 as resource, scheduling::v1 as scheduling,
    storage::v1 as storage,
};
use crate::k8s::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use crate::k8s::apimachinery::pkg::apis::meta::v1 as meta;
use crate::k8s::kube_aggregator::pkg::apis::apiregistration::v1 as apiregistration;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Describes one type, and what it is made of, to the generator.
type Root = fn(&mut SchemaGenerator) -> Schema;

/// What is written about types: their own description under "", the fields' under their names.
pub(super) struct Prose(BTreeMap<String, BTreeMap<String, String>>);

impl Prose {
    /// What is written about these types; `wanted` holds whatever they are made of.
    pub(super) fn of(wanted: &BTreeSet<&'static str>) -> Self {
        let mut generator = SchemaSettings::draft2020_12().into_generator();
        for (_, describe) in roots().iter().filter(|(name, _)| wanted.contains(name.as_str())) {
            describe(&mut generator);
        }
        let definitions = generator.take_definitions(false);
        Self(
            definitions
                .into_iter()
                .map(|(name, schema)| (name, descriptions(&schema)))
                .collect(),
        )
    }

    /// The description of a type, or of one of its fields.
    pub(super) fn get(&self, name: &str, field: &str) -> Option<&str> {
        self.0.get(name)?.get(field).map(String::as_str)
    }
}

fn descriptions(schema: &Value) -> BTreeMap<String, String> {
    let text = |schema: &Value| schema.get("description").and_then(Value::as_str).map(str::to_owned);
    let mut found: BTreeMap<String, String> = text(schema).map(|text| (String::new(), text)).into_iter().collect();
    for (name, schema) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        found.extend(text(schema).map(|text| (name.clone(), text)));
    }
    found
}

fn root<T: JsonSchema>() -> (String, Root) {
    (T::schema_name().into_owned(), SchemaGenerator::subschema_for::<T>)
}

/// The types that documents start from; those that they are made of follow.
fn roots() -> Vec<(String, Root)> {
    let mut roots = core_roots();
    roots.extend(configuration_roots());
    roots.extend([
        root::<apps::ControllerRevision>(),
        root::<apps::DaemonSet>(),
        root::<apps::Deployment>(),
        root::<apps::ReplicaSet>(),
        root::<apps::StatefulSet>(),
        root::<authentication::TokenRequest>(),
        root::<autoscaling::Scale>(),
        root::<batch::CronJob>(),
        root::<batch::Job>(),
        root::<coordination::Lease>(),
        root::<discovery::EndpointSlice>(),
        root::<events::Event>(),
        root::<networking::Ingress>(),
        root::<networking::IngressClass>(),
        root::<networking::NetworkPolicy>(),
        root::<policy::Eviction>(),
        root::<policy::PodDisruptionBudget>(),
        root::<rbac::ClusterRole>(),
        root::<rbac::ClusterRoleBinding>(),
        root::<rbac::Role>(),
        root::<rbac::RoleBinding>(),
        root::<scheduling::PriorityClass>(),
        root::<storage::CSIDriver>(),
        root::<storage::CSINode>(),
        root::<storage::CSIStorageCapacity>(),
        root::<storage::StorageClass>(),
        root::<storage::VolumeAttachment>(),
        root::<apiextensions::CustomResourceDefinition>(),
        root::<meta::DeleteOptions>(),
        root::<meta::ListMeta>(),
        // Custom resources have it without any other type that is made of it.
        root::<meta::ObjectMeta>(),
        root::<meta::Status>(),
    ]);
    roots
}

fn configuration_roots() -> Vec<(String, Root)> {
    vec![
        root::<admission::MutatingAdmissionPolicy>(),
        root::<admission::MutatingAdmissionPolicyBinding>(),
        root::<admission::MutatingWebhookConfiguration>(),
        root::<admission::ValidatingAdmissionPolicy>(),
        root::<admission::ValidatingAdmissionPolicyBinding>(),
        root::<admission::ValidatingWebhookConfiguration>(),
        root::<apiregistration::APIService>(),
        root::<autoscaling::HorizontalPodAutoscaler>(),
        root::<autoscaling_v2::HorizontalPodAutoscaler>(),
        root::<certificates::CertificateSigningRequest>(),
        root::<flowcontrol::FlowSchema>(),
        root::<flowcontrol::PriorityLevelConfiguration>(),
        root::<networking::IPAddress>(),
        root::<networking::ServiceCIDR>(),
        root::<node::RuntimeClass>(),
        root::<resource::DeviceClass>(),
        root::<resource::ResourceClaim>(),
        root::<resource::ResourceClaimTemplate>(),
        root::<resource::ResourceSlice>(),
        root::<storage::VolumeAttributesClass>(),
    ]
}

fn core_roots() -> Vec<(String, Root)> {
    vec![
        root::<core::Binding>(),
        root::<core::ConfigMap>(),
        root::<core::Endpoints>(),
        root::<core::Event>(),
        root::<core::LimitRange>(),
        root::<core::Namespace>(),
        root::<core::Node>(),
        root::<core::PersistentVolume>(),
        root::<core::PersistentVolumeClaim>(),
        root::<core::Pod>(),
        root::<core::PodTemplate>(),
        root::<core::ReplicationController>(),
        root::<core::ResourceQuota>(),
        root::<core::Secret>(),
        root::<core::Service>(),
        root::<core::ServiceAccount>(),
    ]
}
