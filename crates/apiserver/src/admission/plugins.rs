//! The plugins, in the order in which they run (kube-apiserver `AllOrderedPlugins`).

use super::{
    Attributes, certificates, events, image_policy, images, limit_ranger, namespace, node_restriction, node_selector,
    owners, pod_security, priority, quota, runtime_class, service_account, services, storage, tolerations, topology,
};
use futures::future::BoxFuture;
use trireme_schema::{Status, Value};
use trireme_webhooks::admission::Phase;

/// Changes an object.
pub(super) type Mutate = fn(&Attributes<'_>, &mut Value, Option<&Value>) -> Result<(), Status>;
/// Refuses an object, or not.
pub(super) type Validate = fn(&Attributes<'_>, &Value, Option<&Value>) -> Result<(), Status>;

/// The same for a plugin that asks others: who may do something, or what a service elsewhere thinks.
pub(super) type Ask = for<'a> fn(&'a Attributes<'a>, &'a Value, Option<&'a Value>) -> BoxFuture<'a, Result<(), Status>>;

/// A plugin.
pub(crate) struct Plugin {
    /// The name in `--enable-admission-plugins`.
    pub(super) name: &'static str,
    /// Whether it runs unless it is turned off.
    pub(super) default: bool,
    pub(super) mutate: Option<Mutate>,
    pub(super) validate: Option<Validate>,
    /// It asks policies of this phase.
    pub(super) policies: Option<Phase>,
    pub(super) ask: Option<Ask>,
    /// It asks webhooks of this phase.
    pub(super) webhooks: Option<Phase>,
}

const fn plugin(name: &'static str, mutate: Option<Mutate>, validate: Option<Validate>) -> Plugin {
    Plugin { name, default: true, mutate, validate, ask: None, policies: None, webhooks: None }
}

const fn option(name: &'static str, mutate: Option<Mutate>, validate: Option<Validate>) -> Plugin {
    Plugin { default: false, ..plugin(name, mutate, validate) }
}

const fn webhooks(name: &'static str, phase: Phase) -> Plugin {
    Plugin { webhooks: Some(phase), ..plugin(name, None, None) }
}

const fn policies(name: &'static str, phase: Phase) -> Plugin {
    Plugin { policies: Some(phase), ..plugin(name, None, None) }
}

const fn asks(name: &'static str, default: bool, ask: Ask) -> Plugin {
    Plugin { default, ask: Some(ask), ..plugin(name, None, None) }
}

/// All plugins. Those that are upstream's defaults run, and NodeRestriction, as every distribution has it.
pub(super) static PLUGINS: [Plugin; 30] = [
    plugin("NamespaceLifecycle", Some(namespace::lifecycle), Some(namespace::protect)),
    plugin("LimitRanger", Some(limit_ranger::defaults), Some(limit_ranger::bounds)),
    plugin("ServiceAccount", Some(service_account::fill_in), Some(service_account::check)),
    plugin("NodeRestriction", None, Some(node_restriction::check)),
    plugin("TaintNodesByCondition", Some(tolerations::taint_new_node), None),
    option("AlwaysPullImages", Some(images::always_pull), Some(images::check_pulled)),
    asks("ImagePolicyWebhook", false, image_policy::check),
    plugin("PodSecurity", None, Some(pod_security::check)),
    option("PodNodeSelector", Some(node_selector::merge), Some(node_selector::check)),
    plugin("Priority", Some(priority::resolve), Some(priority::check_class)),
    plugin("DefaultTolerationSeconds", Some(tolerations::default_seconds), None),
    option("EventRateLimit", None, Some(events::limit)),
    option("ExtendedResourceToleration", Some(tolerations::extended_resources), None),
    plugin("DefaultStorageClass", Some(storage::default_class), None),
    plugin("StorageObjectInUseProtection", Some(storage::protection), None),
    asks("OwnerReferencesPermissionEnforcement", false, owners::check),
    plugin("PersistentVolumeClaimResize", None, Some(storage::resize)),
    plugin("RuntimeClass", Some(runtime_class::apply), Some(runtime_class::check)),
    asks("CertificateApproval", true, certificates::approval),
    asks("CertificateSigning", true, certificates::signing),
    asks("ClusterTrustBundleAttest", true, certificates::attest),
    plugin("CertificateSubjectRestriction", None, Some(certificates::subject)),
    plugin("DefaultIngressClass", Some(storage::default_ingress_class), None),
    plugin("PodTopologyLabels", Some(topology::labels), None),
    policies("MutatingAdmissionPolicy", Phase::Mutating),
    webhooks("MutatingAdmissionWebhook", Phase::Mutating),
    policies("ValidatingAdmissionPolicy", Phase::Validating),
    webhooks("ValidatingAdmissionWebhook", Phase::Validating),
    option("DenyServiceExternalIPs", None, Some(services::external_ips)),
    plugin("ResourceQuota", None, Some(quota::check)),
];

/// Upstream's plugins that are elsewhere in this server, or of which there is nothing to turn on.
pub(super) const ELSEWHERE: [&str; 1] = ["NodeDeclaredFeatureValidator"];

/// The names of all plugins.
pub(crate) fn known() -> impl Iterator<Item = &'static str> {
    PLUGINS.iter().map(|p| p.name).chain(ELSEWHERE)
}
