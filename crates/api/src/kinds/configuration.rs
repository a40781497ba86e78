//! The rows of kinds that configure the API server or describe what a cluster has: admission, aggregation, autoscaling,
//! certificates, devices, flow control, runtimes, address ranges.

use super::Kind;
use super::table::row;

const API_EXTENSIONS: &[&str] = &["api-extensions"];

/// The rows.
#[rustfmt::skip] // A table has no indentation.
#[expect(clippy::too_many_lines, reason = "a table is one value")]
pub(super) fn kinds() -> Vec<Kind> { vec![
    Kind {
        version: "v2",
        storage_version: "v2",
        short_names: &["hpa"],
        categories: &["all"],
        has_status: true,
        ..row(
            "autoscaling",
            "HorizontalPodAutoscaler",
            "horizontalpodautoscalers",
            "horizontalpodautoscaler",
            "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
        )
    },
    Kind {
        storage_version: "v2",
        short_names: &["hpa"],
        categories: &["all"],
        has_status: true,
        ..row(
            "autoscaling",
            "HorizontalPodAutoscaler",
            "horizontalpodautoscalers",
            "horizontalpodautoscaler",
            "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler",
        )
    },
    Kind {
        short_names: &["csr"],
        namespaced: false,
        has_status: true,
        acted_on: true,
        ..row(
            "certificates.k8s.io",
            "CertificateSigningRequest",
            "certificatesigningrequests",
            "certificatesigningrequest",
            "io.k8s.api.certificates.v1.CertificateSigningRequest",
        )
    },
    Kind {
        short_names: &["ip"],
        namespaced: false,
        acted_on: true,
        ..row(
            "networking.k8s.io",
            "IPAddress",
            "ipaddresses",
            "ipaddress",
            "io.k8s.api.networking.v1.IPAddress",
        )
    },
    Kind {
        namespaced: false,
        has_status: true,
        ..row(
            "networking.k8s.io",
            "ServiceCIDR",
            "servicecidrs",
            "servicecidr",
            "io.k8s.api.networking.v1.ServiceCIDR",
        )
    },
    Kind {
        short_names: &["vac"],
        namespaced: false,
        delete_returns_object: true,
        ..row(
            "storage.k8s.io",
            "VolumeAttributesClass",
            "volumeattributesclasses",
            "volumeattributesclass",
            "io.k8s.api.storage.v1.VolumeAttributesClass",
        )
    },
    Kind {
        categories: API_EXTENSIONS,
        namespaced: false,
        has_status: true,
        unconditional_update: false,
        ..row(
            "apiregistration.k8s.io",
            "APIService",
            "apiservices",
            "apiservice",
            "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService",
        )
    },
    Kind {
        categories: API_EXTENSIONS,
        namespaced: false,
        has_generation: true,
        unconditional_update: false,
        acted_on: true,
        ..row(
            "admissionregistration.k8s.io",
            "MutatingAdmissionPolicy",
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicy",
            "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy",
        )
    },
    Kind {
        categories: API_EXTENSIONS,
        namespaced: false,
        has_generation: true,
        unconditional_update: false,
        acted_on: true,
        ..row(
            "admissionregistration.k8s.io",
            "MutatingAdmissionPolicyBinding",
            "mutatingadmissionpolicybindings",
            "mutatingadmissionpolicybinding",
            "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBinding",
        )
    },
    Kind {
        categories: API_EXTENSIONS,
        namespaced: false,
        has_generation: true,
        unconditional_update: false,
        acted_on: true,
        ..row(
            "admissionregistration.k8s.io",
            "MutatingWebhookConfiguration",
            "mutatingwebhookconfigurations",
            "mutatingwebhookconfiguration",
            "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration",
        )
    },
    Kind {
        categories: API_EXTENSIONS,
        namespaced: false,
        has_generation: true,
        unconditional_update: false,
        has_status: true,
        acted_on: true,
        ..row(
            "admissionregistration.k8s.io",
            "ValidatingAdmissionPolicy",
            "validatingadmissionpolicies",
            "validatingadmissionpolicy",
            "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy",
        )
    },
    Kind {
        categories: API_EXTENSIONS,
        namespaced: false,
        has_generation: true,
        unconditional_update: false,
        acted_on: true,
        ..row(
            "admissionregistration.k8s.io",
            "ValidatingAdmissionPolicyBinding",
            "validatingadmissionpolicybindings",
            "validatingadmissionpolicybinding",
            "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding",
        )
    },
    Kind {
        categories: API_EXTENSIONS,
        namespaced: false,
        has_generation: true,
        unconditional_update: false,
        acted_on: true,
        ..row(
            "admissionregistration.k8s.io",
            "ValidatingWebhookConfiguration",
            "validatingwebhookconfigurations",
            "validatingwebhookconfiguration",
            "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration",
        )
    },
    Kind {
        namespaced: false,
        create_on_update: true,
        unconditional_update: false,
        acted_on: true,
        ..row(
            "node.k8s.io",
            "RuntimeClass",
            "runtimeclasses",
            "runtimeclass",
            "io.k8s.api.node.v1.RuntimeClass",
        )
    },
    Kind {
        namespaced: false,
        has_generation: true,
        delete_returns_object: true,
        ..row(
            "resource.k8s.io",
            "DeviceClass",
            "deviceclasses",
            "deviceclass",
            "io.k8s.api.resource.v1.DeviceClass",
        )
    },
    Kind {
        has_status: true,
        delete_returns_object: true,
        ..row(
            "resource.k8s.io",
            "ResourceClaim",
            "resourceclaims",
            "resourceclaim",
            "io.k8s.api.resource.v1.ResourceClaim",
        )
    },
    Kind {
        delete_returns_object: true,
        ..row(
            "resource.k8s.io",
            "ResourceClaimTemplate",
            "resourceclaimtemplates",
            "resourceclaimtemplate",
            "io.k8s.api.resource.v1.ResourceClaimTemplate",
        )
    },
    Kind {
        namespaced: false,
        has_generation: true,
        delete_returns_object: true,
        ..row(
            "resource.k8s.io",
            "ResourceSlice",
            "resourceslices",
            "resourceslice",
            "io.k8s.api.resource.v1.ResourceSlice",
        )
    },
    Kind {
        namespaced: false,
        has_status: true,
        has_generation: true,
        ..row(
            "flowcontrol.apiserver.k8s.io",
            "FlowSchema",
            "flowschemas",
            "flowschema",
            "io.k8s.api.flowcontrol.v1.FlowSchema",
        )
    },
    Kind {
        namespaced: false,
        has_status: true,
        has_generation: true,
        ..row(
            "flowcontrol.apiserver.k8s.io",
            "PriorityLevelConfiguration",
            "prioritylevelconfigurations",
            "prioritylevelconfiguration",
            "io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration",
        )
    },
]}
