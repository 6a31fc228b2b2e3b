//! Targets follow what is measured of their pods.

mod behavior;
mod calculator;
mod conditions;
mod metrics;
mod selector_text;
mod target;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricStatus, HPAScalingRules, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus, MetricIdentifier, MetricSpec, MetricStatus,
    MetricTarget, MetricValueStatus, ObjectMetricStatus, PodsMetricStatus, ResourceMetricStatus,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;
use trireme_client::{Client, EventKind, Informer, Key, ObjectRef, Recorder};
use trireme_schema::{LabelSelector, Quantity};

use self::behavior::{History, Request};
use self::calculator::{Proposal, Scaled, Situation, Startup, Tolerance, millis};
use self::conditions::Conditions;
use self::metrics::Metrics;
use self::selector_text::{as_go, as_query};
use self::target::{Scale, group_of, mappings};
use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::options::Autoscaling;
use crate::{Clock, Error, merge_patch};

pub(crate) struct HorizontalPodAutoscalers {
    client: Client,
    autoscalers: Informer<HorizontalPodAutoscaler>,
    pods: Informer<Pod>,
    recorder: Recorder,
    clock: Clock,
    options: Autoscaling,
    /// What is remembered of each autoscaler while this process runs.
    known: Mutex<HashMap<Key, Known>>,
}

#[derive(Default)]
struct Known {
    history: History,
    /// The selector of its target, as seen last.
    selector: Option<LabelSelector>,
}

/// One look at one autoscaler: what it says at the end, and where that is told.
struct Look<'a> {
    controller: &'a HorizontalPodAutoscalers,
    key: &'a Key,
    about: ObjectRef,
    spec: &'a HorizontalPodAutoscalerSpec,
    conditions: Conditions,
    metrics: Vec<MetricStatus>,
}

/// What the metrics ask for together.
struct Computed {
    replicas: i32,
    /// The metric that asks for the most.
    metric: String,
    /// What some of the metrics failed with, while others were enough.
    failed: Option<String>,
}

/// Why one metric says nothing.
struct NoMetric {
    /// Of the event, and of the condition.
    reason: &'static str,
    message: String,
    /// How the failure is told of all metrics.
    context: String,
}

/// What one metric says.
struct Said {
    proposal: Proposal,
    name: String,
    status: MetricStatus,
}

impl HorizontalPodAutoscalers {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            autoscalers: context.informer(),
            pods: context.informer(),
            recorder: context.recorder("horizontal-pod-autoscaler"),
            clock: context.clock.clone(),
            options: context.options.autoscaling,
            known: Mutex::default(),
        }
    }

    /// The pods of a namespace that a selector accepts.
    fn pods(&self, namespace: &str, selector: &LabelSelector) -> Result<Vec<Scaled>, Error> {
        let entries = self.pods.in_namespace(namespace);
        let selected = entries.iter().filter(|entry| accepts(selector, |key| entry.meta.label(key)));
        selected.map(|entry| Ok(entry.decode_as()?)).collect()
    }

    /// The autoscalers whose targets' selectors accept one of these pods.
    fn selecting(&self, key: &Key, selector: &LabelSelector, pods: &[Scaled]) -> Vec<Key> {
        let mut known = self.known.lock();
        if let Some(own) = known.get_mut(key) {
            own.selector = Some(selector.clone());
        }
        let selects = |(other, state): &(&Key, &Known)| {
            let selector = state.selector.as_ref().filter(|_| other.namespace == key.namespace);
            selector.is_some_and(|selector| {
                pods.iter().any(|pod| accepts(selector, |label| pod.metadata.labels.get(label).map(String::as_str)))
            })
        };
        let mut selecting: Vec<Key> = known.iter().filter(selects).map(|(other, _)| other.clone()).collect();
        selecting.sort();
        selecting
    }

    async fn write(
        &self,
        autoscaler: &HorizontalPodAutoscaler,
        old: &HorizontalPodAutoscalerStatus,
        new: HorizontalPodAutoscalerStatus,
        about: &ObjectRef,
    ) -> Result<(), Error> {
        if merge_patch::status(&autoscaler.metadata, old, &new)?.is_none() {
            return Ok(());
        }
        let (namespace, name) = (&about.namespace, &about.name);
        let autoscaler = HorizontalPodAutoscaler { status: Some(new), ..autoscaler.clone() };
        let api = self.client.namespaced::<HorizontalPodAutoscaler>(namespace);
        if let Err(error) = api.update_status(name, &autoscaler).await {
            self.recorder.record(about, EventKind::Warning, "FailedUpdateStatus", error.to_string());
            return Err(error.into());
        }
        Ok(())
    }

    /// Looks at one autoscaler: the status is what it says at the end, also when it could do nothing.
    async fn look(&self, autoscaler: &HorizontalPodAutoscaler, key: &Key) -> Result<(), Error> {
        let spec = &autoscaler.spec;
        let old = autoscaler.status.clone().unwrap_or_default();
        let mut look = Look {
            controller: self,
            key,
            about: ObjectRef::to::<HorizontalPodAutoscaler>(&autoscaler.metadata),
            spec,
            conditions: Conditions::new(old.conditions.clone().unwrap_or_default(), self.clock.now()),
            metrics: Vec::new(),
        };
        let mut new = old.clone();
        let done = look.scale(&mut new).await;
        new.conditions = Some(look.conditions.list);
        self.write(autoscaler, &old, new, &look.about).await?;
        if let Err(reason) = done {
            tracing::debug!(%key, reason, "the autoscaler could not do all");
        }
        Ok(())
    }
}

fn accepts<'a>(selector: &LabelSelector, label: impl Fn(&str) -> Option<&'a str>) -> bool {
    selector.0.iter().all(|requirement| requirement.matches(label(&requirement.key)))
}

impl Look<'_> {
    fn warn(&self, reason: &str, message: impl Into<String>) {
        self.controller.recorder.record(&self.about, EventKind::Warning, reason, message);
    }

    /// Reads the target, decides, and scales.
    async fn scale(&mut self, status: &mut HorizontalPodAutoscalerStatus) -> Result<(), String> {
        let target = &self.spec.scale_target_ref;
        let reference = format!("{}/{}/{}", target.kind, self.key.namespace, target.name);
        let read = async {
            let group = group_of(target.api_version.as_deref().unwrap_or(""))?;
            let mappings = mappings(&self.controller.client, group, &target.kind).await?;
            Scale::read(&self.controller.client, &self.key.namespace, &target.name, &mappings).await
        };
        let scale = match read.await {
            Ok(scale) => scale,
            Err(error) => {
                self.warn("FailedGetScale", error.as_str());
                let message = format!("the HPA controller was unable to get the target's current scale: {error}");
                self.conditions.set("AbleToScale", false, "FailedGetScale", message);
                return Err(format!("failed to query scale subresource for {reference}: {error}"));
            }
        };
        let message = "the HPA controller was able to get the target's current scale";
        self.conditions.set("AbleToScale", true, "SucceededGetScale", message);
        let current = scale.wanted();
        status.current_replicas = Some(current);
        status.current_metrics = None;
        let now = self.controller.clock.now();
        self.controller.known.lock().entry(self.key.clone()).or_default().history.begin(current, now);

        let (min, max) = (self.spec.min_replicas.unwrap_or(1), self.spec.max_replicas);
        let mut failed = None;
        let (desired, reason) = if current == 0 && min != 0 {
            let message = "scaling is disabled since the replica count of the target is zero";
            self.conditions.set("ScalingActive", false, "ScalingDisabled", message);
            (current, String::new())
        } else if current > max {
            (max, "Current number of replicas above Spec.MaxReplicas".to_owned())
        } else if current < min {
            (min, "Current number of replicas below Spec.MinReplicas".to_owned())
        } else {
            let computed = self.compute(&scale).await;
            status.current_metrics = Some(std::mem::take(&mut self.metrics));
            let computed = computed.inspect_err(|error| self.warn("FailedComputeMetricsReplicas", error.as_str()))?;
            failed = computed.failed;
            let reason = match computed.replicas {
                wanted if wanted > current => format!("{} above target", computed.metric),
                _ => "All metrics below target".to_owned(),
            };
            (self.settle(Request { current, desired: computed.replicas, min, max }), reason)
        };
        if desired != current {
            self.rescale(scale, current, desired, &reason).await?;
            status.last_scale_time = Some(Time(now));
        }
        status.desired_replicas = desired;
        failed.map_or(Ok(()), Err)
    }

    fn settle(&mut self, request: Request) -> i32 {
        let controller = self.controller;
        let now = controller.clock.now();
        let window =
            SignedDuration::try_from(controller.options.downscale_stabilization).unwrap_or(SignedDuration::MAX);
        let behavior = self.spec.behavior.as_ref();
        let settled = {
            let mut known = controller.known.lock();
            known.entry(self.key.clone()).or_default().history.settle(request, behavior, window, now)
        };
        self.conditions.set("AbleToScale", true, settled.able.0, settled.able.1);
        self.conditions.set("ScalingLimited", settled.limited, settled.limit.0, settled.limit.1);
        settled.replicas
    }

    async fn rescale(&mut self, scale: Scale, current: i32, desired: i32, reason: &str) -> Result<(), String> {
        let controller = self.controller;
        if let Err(error) = scale.write(&controller.client, desired).await {
            self.warn("FailedRescale", format!("New size: {desired}; reason: {reason}; error: {error}"));
            let message = format!("the HPA controller was unable to update the target scale: {error}");
            self.conditions.set("AbleToScale", false, "FailedUpdateScale", message);
            return Err(format!("failed to rescale: {error}"));
        }
        let message = format!("the HPA controller was able to update the target scale to {desired}");
        self.conditions.set("AbleToScale", true, "SucceededRescale", message);
        let message = format!("New size: {desired}; reason: {reason}");
        controller.recorder.record(&self.about, EventKind::Normal, "SuccessfulRescale", message);
        if self.spec.behavior.is_some() {
            let now = controller.clock.now();
            let mut known = controller.known.lock();
            known.entry(self.key.clone()).or_default().history.scaled(current, desired, now);
        }
        Ok(())
    }

    /// The selector of the target's pods, and these; only one autoscaler may follow a pod.
    fn pods(&mut self, scale: &Scale) -> Result<Vec<Scaled>, String> {
        let text = scale.selector();
        if text.is_empty() {
            self.warn("SelectorRequired", "selector is required");
            let message = "the HPA target's scale is missing a selector";
            self.conditions.set("ScalingActive", false, "InvalidSelector", message);
            return Err("selector is required".to_owned());
        }
        let refused = |look: &mut Self, reason: &'static str, message: String| {
            look.warn(reason, message.as_str());
            look.conditions.set("ScalingActive", false, reason, message.as_str());
            Err(message)
        };
        let selector = match LabelSelector::parse(text) {
            Ok(selector) => selector,
            Err(error) => {
                let message =
                    format!("couldn't convert selector into a corresponding internal selector object: {error}");
                return refused(self, "InvalidSelector", message);
            }
        };
        let pods = self.controller.pods(&self.key.namespace, &selector).map_err(|error| error.to_string())?;
        let selecting = self.controller.selecting(self.key, &selector, &pods);
        if selecting.len() > 1 {
            let names: Vec<String> = selecting.iter().map(ToString::to_string).collect();
            let message = format!("pods by selector {text} are controlled by multiple HPAs: [{}]", names.join(" "));
            return refused(self, "AmbiguousSelector", message);
        }
        Ok(pods)
    }

    /// Asks all metrics: the highest number counts. Nothing is taken away while some of them say nothing.
    async fn compute(&mut self, scale: &Scale) -> Result<Computed, String> {
        let pods = self.pods(scale)?;
        let specs = self.spec.metrics.as_deref().unwrap_or_default();
        let current = scale.wanted();
        let mut best: Option<(i32, String)> = None;
        let mut first_failure: Option<NoMetric> = None;
        let mut failures = 0;
        for spec in specs {
            match self.ask(spec, scale, &pods).await {
                Ok(said) => {
                    self.metrics.push(said.status);
                    let replicas = said.proposal.replicas;
                    if best.as_ref().is_none_or(|(most, _)| *most == 0 || replicas > *most) {
                        best = Some((replicas, said.name));
                    }
                }
                Err(failure) => {
                    self.warn(failure.reason, failure.message.as_str());
                    // Its place in the status stays empty, as upstream leaves it.
                    self.metrics.push(MetricStatus::default());
                    failures += 1;
                    first_failure.get_or_insert(failure);
                }
            }
        }
        let failed = first_failure.as_ref().map(|failure| {
            format!(
                "invalid metrics ({failures} invalid out of {}), first error is: {}{}",
                specs.len(),
                failure.context,
                failure.message
            )
        });
        match (best, first_failure, failed) {
            (Some((replicas, _)), Some(failure), Some(failed)) if replicas < current => self.inactive(&failure, failed),
            (None, Some(failure), Some(failed)) => self.inactive(&failure, failed),
            (Some((replicas, metric)), _, failed) => {
                let message = format!("the HPA was able to successfully calculate a replica count from {metric}");
                self.conditions.set("ScalingActive", true, "ValidMetricFound", message);
                Ok(Computed { replicas, metric, failed })
            }
            (None, ..) => Err("invalid metrics (0 invalid out of 0)".to_owned()),
        }
    }

    fn inactive(&mut self, failure: &NoMetric, failed: String) -> Result<Computed, String> {
        let message = format!("the HPA was unable to compute the replica count: {}", failure.message);
        self.conditions.set("ScalingActive", false, failure.reason, message);
        Err(failed)
    }

    fn tolerance(&self) -> Tolerance {
        let behavior = self.spec.behavior.as_ref();
        let of = |rules: Option<&HPAScalingRules>| {
            let own = rules.and_then(|rules| rules.tolerance.as_ref()).and_then(|own| own.0.parse::<Quantity>().ok());
            own.map_or(self.controller.options.tolerance, |own| own.as_f64())
        };
        Tolerance {
            down: of(behavior.and_then(|behavior| behavior.scale_down.as_ref())),
            up: of(behavior.and_then(|behavior| behavior.scale_up.as_ref())),
        }
    }

    /// Asks one metric.
    async fn ask(&self, spec: &MetricSpec, scale: &Scale, pods: &[Scaled]) -> Result<Said, NoMetric> {
        let options = &self.controller.options;
        let situation = Situation {
            current: scale.wanted(),
            pods,
            tolerance: self.tolerance(),
            startup: Startup {
                cpu_initialization: options.cpu_initialization,
                initial_readiness: options.initial_readiness,
            },
            now: self.controller.clock.now(),
        };
        let metrics = Metrics { client: &self.controller.client, namespace: &self.key.namespace };
        let unknown = || NoMetric {
            reason: "InvalidMetricSourceType",
            message: format!("unknown metric source type {:?}", spec.type_),
            context: String::new(),
        };
        match spec.type_.as_str() {
            "Resource" => {
                let source = spec.resource.as_ref().ok_or_else(unknown)?;
                let (current, proposal, name) =
                    resource(&metrics, &situation, scale.selector(), (&source.name, ""), &source.target)
                        .await
                        .map_err(|message| NoMetric {
                            reason: "FailedGetResourceMetric",
                            message,
                            context: format!("failed to get {} resource metric value: ", source.name),
                        })?;
                let status = MetricStatus {
                    resource: Some(ResourceMetricStatus { name: source.name.clone(), current }),
                    ..of_type(spec)
                };
                Ok(Said { proposal, name, status })
            }
            "ContainerResource" => {
                let source = spec.container_resource.as_ref().ok_or_else(unknown)?;
                let what = (source.name.as_str(), source.container.as_str());
                let (current, proposal, name) = resource(&metrics, &situation, scale.selector(), what, &source.target)
                    .await
                    .map_err(|message| NoMetric {
                        reason: "FailedGetContainerResourceMetric",
                        message,
                        context: format!("failed to get {} container metric value: ", source.container),
                    })?;
                let status = MetricStatus {
                    container_resource: Some(ContainerResourceMetricStatus {
                        name: source.name.clone(),
                        container: source.container.clone(),
                        current,
                    }),
                    ..of_type(spec)
                };
                Ok(Said { proposal, name, status })
            }
            "Pods" => {
                let source = spec.pods.as_ref().ok_or_else(unknown)?;
                let asked = async {
                    let target = source.target.average_value.as_ref().map_or(0, millis);
                    let metric = &source.metric;
                    let samples =
                        metrics.pods(&metric.name, scale.selector(), &as_query(metric.selector.as_ref())).await;
                    let samples = samples.map_err(|error| format!("unable to get metric {}: {error}", metric.name))?;
                    calculator::by_average(&situation, samples, "", target)
                };
                let proposal = asked.await.map_err(|message| NoMetric {
                    reason: "FailedGetPodsMetric",
                    message,
                    context: "failed to get pods metric value: ".to_owned(),
                })?;
                let current = average(proposal.value);
                let status = MetricStatus {
                    pods: Some(PodsMetricStatus { metric: source.metric.clone(), current }),
                    ..of_type(spec)
                };
                Ok(Said { proposal, name: format!("pods metric {}", source.metric.name), status })
            }
            "Object" => self.object(spec, &metrics, &situation, scale.there()).await,
            "External" => external(spec, &metrics, &situation, scale.there()).await,
            _ => Err(unknown()),
        }
    }

    async fn object(
        &self,
        spec: &MetricSpec,
        metrics: &Metrics<'_>,
        situation: &Situation<'_>,
        there: i32,
    ) -> Result<Said, NoMetric> {
        let failed = |message: String| NoMetric {
            reason: "FailedGetObjectMetric",
            message,
            context: "failed to get object metric value: ".to_owned(),
        };
        let none = "invalid object metric source: neither a value target nor an average value target was set";
        let source = spec.object.as_ref().ok_or_else(|| failed(none.to_owned()))?;
        let (object, metric, target) = (&source.described_object, &source.metric, &source.target);
        let read = async {
            let group = group_of(object.api_version.as_deref().unwrap_or(""))?;
            let mapping = match mappings(&self.controller.client, group, &object.kind).await {
                Ok(mappings) => mappings.into_iter().next().ok_or_else(|| "unrecognized resource".to_owned()),
                Err(error) => Err(format!("unable to fetch metrics from custom metrics API: {error}")),
            }?;
            metrics.object(&metric.name, object, &mapping, &as_query(metric.selector.as_ref())).await
        };
        // Upstream's order of kind, object and error, which reads oddly.
        let told = |error: String| {
            let at = format!("{} {}/{error}", self.key.namespace, object.name);
            failed(format!("unable to get metric {}: {} on {at}", metric.name, object.kind))
        };
        let (proposal, current, name, described) = match (target.type_.as_str(), &target.value, &target.average_value) {
            ("Value", Some(wanted), _) => {
                let value = read.await.map_err(told)?;
                let proposal = calculator::by_value(situation, value, millis(wanted)).map_err(failed)?;
                let name = format!("{} metric {}", object.kind, metric.name);
                (proposal, whole(proposal.value), name, object.clone())
            }
            ("AverageValue", _, Some(wanted)) => {
                let value = read.await.map_err(|error| {
                    let message = told(error).message;
                    failed(message)
                })?;
                let proposal = calculator::by_share(there, value, millis(wanted), situation.tolerance);
                (proposal, average(proposal.value), named_external(metric), object.clone())
            }
            _ => return Err(failed(none.to_owned())),
        };
        let object = ObjectMetricStatus { described_object: described, metric: metric.clone(), current };
        Ok(Said { proposal, name, status: MetricStatus { object: Some(object), ..of_type(spec) } })
    }
}

async fn external(
    spec: &MetricSpec,
    metrics: &Metrics<'_>,
    situation: &Situation<'_>,
    there: i32,
) -> Result<Said, NoMetric> {
    let name = spec.external.as_ref().map(|source| source.metric.name.clone()).unwrap_or_default();
    let failed = |message: String| NoMetric {
        reason: "FailedGetExternalMetric",
        message,
        context: format!("failed to get {name} external metric value: failed to get {name} external metric: "),
    };
    let none = "invalid external metric source: neither a value target nor an average value target was set";
    let source = spec.external.as_ref().ok_or_else(|| failed(none.to_owned()))?;
    let (metric, target) = (&source.metric, &source.target);
    let selector = metric.selector.as_ref();
    let read = async {
        metrics.external(&metric.name, &as_query(selector)).await.map_err(|error| {
            failed(format!(
                "unable to get external metric {}/{}/{}: {error}",
                metrics.namespace,
                metric.name,
                as_go(selector)
            ))
        })
    };
    let (proposal, current) = match (&target.average_value, &target.value) {
        (Some(wanted), _) => {
            let value = read.await?;
            let proposal = calculator::by_share(there, value, millis(wanted), situation.tolerance);
            (proposal, average(proposal.value))
        }
        (None, Some(wanted)) => {
            let value = read.await?;
            let proposal = calculator::by_value(situation, value, millis(wanted)).map_err(failed)?;
            (proposal, whole(proposal.value))
        }
        (None, None) => return Err(failed(none.to_owned())),
    };
    let status = ExternalMetricStatus { metric: metric.clone(), current };
    let status = MetricStatus { external: Some(status), ..of_type(spec) };
    Ok(Said { proposal, name: named_external(metric), status })
}

/// A resource of the pods, or of one container of each.
async fn resource(
    metrics: &Metrics<'_>,
    situation: &Situation<'_>,
    selector: &str,
    (resource, container): (&str, &str),
    target: &MetricTarget,
) -> Result<(MetricValueStatus, Proposal, String), String> {
    let read = async {
        let samples = metrics.resource(resource, selector, container).await;
        samples.map_err(|error| format!("unable to get metrics for resource {resource}: {error}"))
    };
    if let Some(wanted) = &target.average_value {
        let proposal = match read.await {
            Ok(samples) => calculator::by_average(situation, samples, resource, millis(wanted)),
            Err(error) => Err(error),
        };
        let proposal = proposal.map_err(|error| format!("failed to get {resource} usage: {error}"))?;
        return Ok((average(proposal.value), proposal, format!("{resource} resource")));
    }
    let wanted = target.average_utilization.ok_or(
        "invalid resource metric source: neither an average utilization target nor an average value (usage) target \
         was set",
    )?;
    let proposal = match read.await {
        Ok(samples) => calculator::by_utilization(situation, samples, (resource, container), wanted),
        Err(error) => Err(error),
    };
    let proposal = proposal.map_err(|error| format!("failed to get {resource} utilization: {error}"))?;
    let current = MetricValueStatus { average_utilization: proposal.utilization, ..average(proposal.value) };
    let of = if container.is_empty() { "resource" } else { "container resource" };
    Ok((current, proposal, format!("{resource} {of} utilization (percentage of request)")))
}

fn of_type(spec: &MetricSpec) -> MetricStatus {
    MetricStatus { type_: spec.type_.clone(), ..MetricStatus::default() }
}

fn average(value: i64) -> MetricValueStatus {
    let text = Text(Quantity::millis(value).to_string());
    MetricValueStatus { average_value: Some(text), ..MetricValueStatus::default() }
}

fn whole(value: i64) -> MetricValueStatus {
    MetricValueStatus { value: Some(Text(Quantity::millis(value).to_string())), ..MetricValueStatus::default() }
}

fn named_external(metric: &MetricIdentifier) -> String {
    format!("external metric {}({})", metric.name, as_go(metric.selector.as_ref()))
}

impl Controller for HorizontalPodAutoscalers {
    const NAME: &'static str = "horizontal-pod-autoscaler-controller";
    const ACCOUNT: Option<&'static str> = Some("horizontal-pod-autoscaler");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        let this = Arc::clone(self);
        watches.on(&self.autoscalers, move |change| {
            let Some(new) = &change.new else {
                let gone = change.latest().map(|entry| entry.meta.key.clone());
                gone.iter().for_each(|key| drop(this.known.lock().remove(key)));
                return Vec::new();
            };
            // What we write ourselves is no reason to look again.
            let spec = |entry: &trireme_client::Entry<HorizontalPodAutoscaler>| {
                entry.decode().ok().map(|autoscaler| autoscaler.spec)
            };
            let same = change.old.as_ref().is_some_and(|old| old.meta.uid == new.meta.uid && spec(old) == spec(new));
            if same { Vec::new() } else { vec![new.meta.key.clone()] }
        });
        watches.needs(&self.pods);
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.autoscalers.find(key) else {
            self.known.lock().remove(key);
            return Ok(Requeue::Never);
        };
        let again = Requeue::After(self.options.sync_period.max(Duration::from_secs(1)));
        // What failed is looked at again with the next period, as everything is: metrics do not come back sooner.
        match self.look(&entry.decode()?, key).await {
            Err(error) if !error.is_race() => {
                tracing::warn!(%key, %error, "the autoscaler's status was not written");
                Ok(again)
            }
            _ => Ok(again),
        }
    }
}
