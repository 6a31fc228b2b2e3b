use std::sync::Arc;

use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use trireme_client::Informers;

use crate::context::{Clients, Context};
use crate::controller::{Controller, run};
use crate::{
    Clock, Options, attach_detach, bootstrap_tokens, certificates, cluster_role_aggregation, cron_job, daemon_set,
    deployment, device_taint_eviction, disruption, endpoint_slice, endpoint_slice_mirroring, endpoints,
    ephemeral_volume, garbage_collector, horizontal_pod_autoscaler, job, legacy_tokens, namespace, node_ipam,
    node_lifecycle, node_ttl, pod_gc, pv_protection, pvc_protection, replica_set, replication_controller,
    resource_claim, resource_quota, root_ca, service_account, service_account_tokens, service_cidr, stateful_set,
    taint_eviction, ttl_after_finished, validating_policy_status, volume_attributes_class_protection, volume_binder,
    volume_expand,
};

/// Starts one controller.
type Start = fn(&Context, &mut JoinSet<()>);

/// A table of controllers: the name of each, and how it is started.
macro_rules! table {
    ($($controller:ty),* $(,)?) => {
        &[$((<$controller as Controller>::NAME, |context, running| {
            if <$controller as Controller>::enabled(&context.options) {
                let context = context.acting_as(<$controller as Controller>::ACCOUNT);
                running.spawn(run(<$controller>::new(&context), context.shutdown.clone()));
            }
        })),*]
    };
}

/// Every controller.
const ALL: &[(&str, Start)] = table! {
    namespace::Namespaces,
    service_account::ServiceAccounts,
    service_account_tokens::ServiceAccountTokens,
    root_ca::RootCa,
    deployment::Deployments,
    replica_set::ReplicaSets,
    daemon_set::DaemonSets,
    stateful_set::StatefulSets,
    replication_controller::ReplicationControllers,
    job::Jobs,
    cron_job::CronJobs,
    ttl_after_finished::TtlAfterFinished,
    disruption::Disruption,
    cluster_role_aggregation::ClusterRoleAggregation,
    pvc_protection::PvcProtection,
    pv_protection::PvProtection,
    ephemeral_volume::EphemeralVolumes,
    certificates::CertificateApproving,
    certificates::CertificateSigning,
    certificates::CertificateCleaning,
    bootstrap_tokens::BootstrapSigner,
    bootstrap_tokens::TokenCleaner,
    legacy_tokens::LegacyTokens,
    volume_binder::VolumeBinder,
    resource_quota::ResourceQuotas,
    service_cidr::ServiceCidrs,
    endpoint_slice::EndpointSlices,
    endpoints::EndpointsController,
    endpoint_slice_mirroring::EndpointSliceMirroring,
    garbage_collector::GarbageCollector,
    pod_gc::PodGc,
    node_lifecycle::NodeLifecycle,
    taint_eviction::TaintEviction,
    node_ipam::NodeIpam,
    validating_policy_status::ValidatingPolicyStatus,
    horizontal_pod_autoscaler::HorizontalPodAutoscalers,
    resource_claim::ResourceClaims,
    device_taint_eviction::DeviceTaintEviction,
    attach_detach::AttachDetach,
    volume_expand::VolumeExpand,
    volume_attributes_class_protection::VolumeAttributesClassProtection,
    node_ttl::NodeTtl,
};

/// The running controllers.
pub struct Controllers;

impl Controllers {
    /// The names of all controllers, as they can be disabled; upstream's.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ALL.iter().map(|(name, _)| *name)
    }

    /// Runs all controllers that are not disabled, until `shutdown`. The informers are those of the process, shared with
    /// its other components.
    pub fn start(
        options: Options,
        clients: Clients,
        informers: Arc<Informers>,
        clock: Clock,
        shutdown: CancellationToken,
    ) -> JoinHandle<()> {
        let options = Arc::new(options);
        let context = Context { client: clients(None), clients, informers, options, clock, shutdown };
        tokio::spawn(async move {
            let mut running = JoinSet::new();
            for (name, start) in ALL {
                if context.options.disable.contains(*name) {
                    tracing::info!(controller = name, "disabled");
                } else {
                    start(&context, &mut running);
                }
            }
            while running.join_next().await.is_some() {}
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_api::{FakeApi, clock_at, eventually};
    use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
    use serde_json::json;

    #[tokio::test(start_paused = true)]
    async fn all_run_together_and_end_with_the_shutdown() {
        let names: std::collections::BTreeSet<_> = Controllers::names().collect();
        assert_eq!(names.len(), ALL.len());
        let api = FakeApi::default();
        let options = Options { cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap()], ..Options::default() };
        let context = api.context(options.clone(), clock_at("2026-01-01T00:00:00Z"));
        let (clients, shutdown) = (Arc::clone(&context.clients), context.shutdown.clone());
        let running = Controllers::start(options, clients, context.informers, context.clock, shutdown.clone());
        api.put::<Namespace>(json!({"metadata": {"name": "n"}}));
        eventually("the account", || !api.all::<ServiceAccount>().is_empty()).await;
        shutdown.cancel();
        running.await.unwrap();
    }
}
