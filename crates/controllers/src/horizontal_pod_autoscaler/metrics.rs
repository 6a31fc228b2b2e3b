//! What the metrics APIs say: `metrics.k8s.io`, `custom.metrics.k8s.io` and `external.metrics.k8s.io`, which somebody
//! else serves behind the API server. When nobody does, that is what is told.

use std::collections::BTreeMap;

use http::Method;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use trireme_client::{Client, Error, escape};

use super::calculator::{Sample, Samples, millis};
use super::target::Mapping;

/// Custom metrics that do not say over how long they were measured.
const WINDOW: SignedDuration = SignedDuration::from_secs(60);
const CUSTOM: &str = "custom.metrics.k8s.io";
/// The versions of custom metrics that can be read.
const CUSTOM_VERSIONS: [&str; 2] = ["v1beta2", "v1beta1"];

#[derive(Deserialize)]
struct Items<T> {
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Deserialize)]
struct PodMetrics {
    metadata: Named,
    timestamp: Timestamp,
    #[serde(default)]
    window: String,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Named {
    name: String,
    namespace: String,
}

#[derive(Deserialize)]
struct ContainerMetrics {
    name: String,
    #[serde(default)]
    usage: BTreeMap<String, Text>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetricValue {
    #[serde(default)]
    described_object: Named,
    timestamp: Timestamp,
    /// `window` in v1beta1.
    #[serde(default, alias = "window")]
    window_seconds: Option<i64>,
    value: Text,
}

#[derive(Deserialize)]
struct ExternalValue {
    value: Text,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    #[serde(default)]
    versions: Vec<GroupVersion>,
}

#[derive(Deserialize)]
struct GroupVersion {
    version: String,
}

/// Reads metrics.
pub(super) struct Metrics<'a> {
    pub(super) client: &'a Client,
    pub(super) namespace: &'a str,
}

impl Metrics<'_> {
    /// What the pods of a selector use of a resource; of one container of each, when one is named.
    pub(super) async fn resource(&self, resource: &str, selector: &str, container: &str) -> Result<Samples, String> {
        let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods", self.namespace);
        let path = format!("{path}?labelSelector={}", escape(selector));
        let list: Items<PodMetrics> = self
            .get(&path, "pods.metrics.k8s.io")
            .await
            .map_err(|error| format!("unable to fetch metrics from resource metrics API: {error}"))?;
        if list.items.is_empty() {
            return Err("no metrics returned from resource metrics API".to_owned());
        }
        let mut samples = Samples::new();
        for pod in list.items {
            let usage = if container.is_empty() { whole(&pod, resource) } else { part(&pod, resource, container)? };
            if let Some(value) = usage {
                let sample = Sample { value, at: pod.timestamp, window: duration(&pod.window) };
                samples.insert(pod.metadata.name, sample);
            }
        }
        Ok(samples)
    }

    /// A metric of each pod of a selector.
    pub(super) async fn pods(&self, metric: &str, selector: &str, of_metric: &str) -> Result<Samples, String> {
        let path = format!("namespaces/{}/pods/*/{}", self.namespace, escape(metric));
        let list = self.custom(&path, |version| {
            let query = format!("?labelSelector={}", escape(selector));
            let more = format!("&metricLabelSelector={}", escape(of_metric));
            (query + if of_metric.is_empty() { "" } else { &more }, format!("pods.{version}.{CUSTOM}"))
        });
        let list = list.await?;
        if list.is_empty() {
            return Err("no metrics returned from custom metrics API".to_owned());
        }
        let sample = |metric: MetricValue| {
            let window = metric.window_seconds.map_or(WINDOW, SignedDuration::from_secs);
            (metric.described_object.name, Sample { value: millis(&metric.value), at: metric.timestamp, window })
        };
        Ok(list.into_iter().map(sample).collect())
    }

    /// A metric of one object.
    pub(super) async fn object(
        &self,
        metric: &str,
        object: &CrossVersionObjectReference,
        mapping: &Mapping,
        of_metric: &str,
    ) -> Result<i64, String> {
        // A reference cannot leave its namespace, so that the name of a Namespace is not asked for.
        let path = if object.kind == "Namespace" && mapping.resource.group.is_empty() {
            format!("namespaces/{}/metrics/{}", self.namespace, escape(metric))
        } else {
            let resource = mapping.qualified();
            format!("namespaces/{}/{resource}/{}/{}", self.namespace, escape(&object.name), escape(metric))
        };
        let list = self.custom(&path, |version| {
            let query = format!("?metricLabelSelector={}", escape(of_metric));
            let what = format!("{}.{version}.{CUSTOM}", mapping.resource.plural);
            (if of_metric.is_empty() { String::new() } else { query }, what)
        });
        let list = list.await?;
        match list.first() {
            Some(metric) => Ok(millis(&metric.value)),
            None => Err("unable to fetch metrics from custom metrics API: the custom metrics API server returned 0 \
                         results when we asked for exactly one"
                .to_owned()),
        }
    }

    /// The sum of the series of an external metric.
    pub(super) async fn external(&self, metric: &str, of_metric: &str) -> Result<i64, String> {
        let path = format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/{}", self.namespace, escape(metric));
        let query = format!("?labelSelector={}", escape(of_metric));
        let path = path + if of_metric.is_empty() { "" } else { &query };
        let list: Items<ExternalValue> = self
            .get(&path, &format!("{metric}.external.metrics.k8s.io"))
            .await
            .map_err(|error| format!("unable to fetch metrics from external metrics API: {error}"))?;
        if list.items.is_empty() {
            return Err("no metrics returned from external metrics API".to_owned());
        }
        Ok(list.items.iter().fold(0, |sum: i64, item| sum.saturating_add(millis(&item.value))))
    }

    async fn custom(&self, path: &str, query: impl Fn(&str) -> (String, String)) -> Result<Vec<MetricValue>, String> {
        let failed = |why: String| format!("unable to fetch metrics from custom metrics API: {why}");
        let group: Result<Group, _> = self.get(&format!("/apis/{CUSTOM}"), CUSTOM).await;
        let absent = || failed(format!("no custom metrics API ({CUSTOM}) registered"));
        let group = group.map_err(|_| absent())?;
        let known = |version: &GroupVersion| CUSTOM_VERSIONS.contains(&version.version.as_str());
        let version = group
            .versions
            .into_iter()
            .find(known)
            .ok_or_else(|| failed(format!("no known available metric versions found ({CUSTOM})")))?;
        let (query, what) = query(&version.version);
        let path = format!("/apis/{CUSTOM}/{}/{path}{query}", version.version);
        let list: Items<MetricValue> = self.get(&path, &what).await.map_err(failed)?;
        Ok(list.items)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, what: &str) -> Result<T, String> {
        let answer = self.client.request(Method::GET, path, None).await.map_err(|error| told(&error, what))?;
        serde_json::from_slice(answer.body()).map_err(|error| error.to_string())
    }
}

/// An error as client-go tells it: an answer that is no `Status` is told by its code.
fn told(error: &Error, what: &str) -> String {
    let Error::Api(status) = error else { return error.to_string() };
    if status.details.is_some() {
        return error.to_string();
    }
    match status.code {
        Some(404) => format!("the server could not find the requested resource (get {what})"),
        Some(503) => format!("the server is currently unable to handle the request (get {what})"),
        _ => error.to_string(),
    }
}

/// What all containers of a pod use together, unless one says nothing.
fn whole(pod: &PodMetrics, resource: &str) -> Option<i64> {
    if pod.containers.is_empty() {
        return None;
    }
    let usage = |container: &ContainerMetrics| container.usage.get(resource).map(millis);
    pod.containers.iter().map(usage).try_fold(0_i64, |sum, value| Some(sum.saturating_add(value?)))
}

fn part(pod: &PodMetrics, resource: &str, container: &str) -> Result<Option<i64>, String> {
    let found = pod.containers.iter().find(|own| own.name == container).ok_or_else(|| {
        let Named { name, namespace } = &pod.metadata;
        format!(
            "failed to get container metrics: container {container} not present in metrics for pod {namespace}/{name}"
        )
    })?;
    Ok(found.usage.get(resource).map(millis))
}

/// A duration as Go writes it, `30s` or `1m0s`; what cannot be read is none.
fn duration(text: &str) -> SignedDuration {
    text.parse().unwrap_or(SignedDuration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_uses_what_its_containers_use() {
        let pod = |containers: serde_json::Value| -> PodMetrics {
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "window": "30s",
                "timestamp": "2026-01-01T00:00:00Z", "containers": containers}))
            .unwrap()
        };
        let two = pod(json!([{"name": "a", "usage": {"cpu": "100m"}}, {"name": "b", "usage": {"cpu": "1"}}]));
        assert_eq!(whole(&two, "cpu"), Some(1100));
        assert_eq!(whole(&two, "memory"), None);
        assert_eq!(whole(&pod(json!([])), "cpu"), None);
        assert_eq!(part(&two, "cpu", "b"), Ok(Some(1000)));
        assert_eq!(
            part(&two, "cpu", "c").unwrap_err(),
            "failed to get container metrics: container c not present in metrics for pod n/p"
        );
        for (text, seconds) in [("30s", 30), ("1m0s", 60), ("", 0), ("1h2m3s", 3723)] {
            assert_eq!(duration(text), SignedDuration::from_secs(seconds), "{text}");
        }
    }
}
