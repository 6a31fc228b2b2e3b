//! What a pod takes of a node.

use crate::resources::{BadQuantity, ResourceList, Resources};
use crate::view::{Container, ContainerStatus, Pod, Requirements};

/// What a container without a request is taken to use when nodes are compared (upstream's non-zero defaults).
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 << 20;

/// What a pod takes, and what it is taken to use when nodes are compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Requests {
    /// What is set aside.
    pub total: Resources,
    /// Thousandths of a core, with a default for containers without a request.
    pub non_zero_milli_cpu: i64,
    /// Bytes, with a default for containers without a request.
    pub non_zero_memory: i64,
}

impl Requests {
    /// Reads a pod: the larger of what its containers take together and of what any init container takes while the
    /// sidecars before it run (KEP-753), the pod's own figures where it names any (KEP-2837), and the overhead. While a
    /// pod is being resized, what it had, has and shall have count, each at its largest (KEP-1287).
    ///
    /// # Errors
    /// A quantity that is none.
    pub fn read(pod: &Pod) -> Result<Self, BadQuantity> {
        let own = pod.spec.resources.as_ref().map(|r| &r.requests).filter(|list| !list.is_empty());
        let mut total = peak(pod, &Defaults::NONE)?;
        if let Some(own) = own {
            replace(&mut total, own, pod)?;
        }
        let defaults = match own {
            None => Defaults { milli_cpu: DEFAULT_MILLI_CPU, memory: DEFAULT_MEMORY },
            // A pod that has figures of its own needs defaults only for what they leave out.
            Some(_) => Defaults {
                milli_cpu: if total.milli_cpu == 0 { DEFAULT_MILLI_CPU } else { 0 },
                memory: if total.memory == 0 { DEFAULT_MEMORY } else { 0 },
            },
        };
        let mut non_zero = peak(pod, &defaults)?;
        if let Some(own) = own {
            replace(&mut non_zero, own, pod)?;
        }
        let overhead = Resources::read(&pod.spec.overhead)?;
        total.add(&overhead);
        non_zero.add(&overhead);
        total.pods = 1;
        Ok(Self { total, non_zero_milli_cpu: non_zero.milli_cpu, non_zero_memory: non_zero.memory })
    }
}

/// What is put in where a container names no request.
struct Defaults {
    milli_cpu: i64,
    memory: i64,
}

impl Defaults {
    const NONE: Self = Self { milli_cpu: 0, memory: 0 };
}

/// Whether an init container runs beside the others.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn peak(pod: &Pod, defaults: &Defaults) -> Result<Resources, BadQuantity> {
    let infeasible = pod.status.conditions.iter().any(|c| &*c.kind == "PodResizePending" && &*c.reason == "Infeasible");
    let mut sidecars = Resources::default();
    let mut init_peak = Resources::default();
    for container in &pod.spec.init_containers {
        let status: &[ContainerStatus] = if is_sidecar(container) { &pod.status.init_container_statuses } else { &[] };
        let mut own = of_container(container, status, infeasible, defaults)?;
        if is_sidecar(container) {
            sidecars.add(&own);
            init_peak.raise(&sidecars);
        } else {
            own.add(&sidecars);
            init_peak.raise(&own);
        }
    }
    let mut total = sidecars;
    for container in &pod.spec.containers {
        total.add(&of_container(container, &pod.status.container_statuses, infeasible, defaults)?);
    }
    total.raise(&init_peak);
    Ok(total)
}

fn of_container(
    container: &Container,
    statuses: &[ContainerStatus],
    infeasible: bool,
    defaults: &Defaults,
) -> Result<Resources, BadQuantity> {
    let list = &container.resources.requests;
    let mut own = Resources::read(list)?;
    if let Some(status) = statuses.iter().find(|status| status.name == container.name) {
        let mut real = in_force(&status.allocated_resources, status.resources.as_ref())?;
        // A resize that the node can never make is no claim; before the first status nothing else is known.
        if !infeasible || real == Resources::default() {
            real.raise(&own);
        }
        own = real;
    }
    if !list.contains_key("cpu") && own.milli_cpu == 0 {
        own.milli_cpu = defaults.milli_cpu;
    }
    if !list.contains_key("memory") && own.memory == 0 {
        own.memory = defaults.memory;
    }
    Ok(own)
}

fn in_force(allocated: &ResourceList, actual: Option<&Requirements>) -> Result<Resources, BadQuantity> {
    let mut real = Resources::read(allocated)?;
    if let Some(actual) = actual {
        real.raise(&Resources::read(&actual.requests)?);
    }
    Ok(real)
}

/// Puts the pod's own figures in place of its containers' sums, for the resources that they name.
fn replace(total: &mut Resources, own: &ResourceList, pod: &Pod) -> Result<(), BadQuantity> {
    let mut figures = Resources::read(own)?;
    let real = in_force(&pod.status.allocated_resources, pod.status.resources.as_ref())?;
    figures.raise(&real);
    for name in own.keys() {
        match &**name {
            "cpu" => total.milli_cpu = figures.milli_cpu,
            "memory" => total.memory = figures.memory,
            "ephemeral-storage" => total.ephemeral_storage = figures.ephemeral_storage,
            name => {
                let amount = figures.extended(name);
                match total.extended.binary_search_by(|(n, _)| (**n).cmp(name)) {
                    Ok(at) => {
                        if let Some((_, own)) = total.extended.get_mut(at) {
                            *own = amount;
                        }
                    }
                    Err(at) => total.extended.insert(at, (name.into(), amount)),
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(spec: Value, status: Value) -> Requests {
        let pod = json!({"metadata": {"name": "a", "namespace": "n"}, "spec": spec, "status": status});
        Requests::read(&serde_json::from_value(pod).unwrap()).unwrap()
    }

    fn cpu(amount: &str) -> Value {
        json!({"requests": {"cpu": amount}})
    }

    #[test]
    fn requests_are_the_peak_of_the_pods_life() {
        let spec = json!({
            "containers": [{"resources": cpu("100m")}, {"resources": cpu("200m")}],
            "initContainers": [
                {"resources": cpu("50m"), "restartPolicy": "Always"},
                {"resources": cpu("600m")},
            ],
            "overhead": {"cpu": "10m"},
        });
        assert_eq!(read(spec.clone(), json!({})).total.milli_cpu, 660);
        let mut with_pod = spec;
        with_pod["resources"] = cpu("1");
        assert_eq!(read(with_pod, json!({})).total.milli_cpu, 1_010);
    }

    #[test]
    fn containers_without_requests_are_taken_to_use_something() {
        let none = read(json!({"containers": [{}, {"resources": cpu("300m")}]}), json!({}));
        assert_eq!((none.total.milli_cpu, none.total.memory), (300, 0));
        assert_eq!((none.non_zero_milli_cpu, none.non_zero_memory), (400, 400 << 20));
        let of_pod = read(json!({"containers": [{}], "resources": cpu("1")}), json!({}));
        assert_eq!((of_pod.non_zero_milli_cpu, of_pod.non_zero_memory), (1_000, 200 << 20));
    }

    #[test]
    fn a_resize_counts_at_its_largest_unless_it_cannot_be() {
        let spec = json!({"containers": [{"name": "c", "resources": cpu("300m")}]});
        let status = |allocated: &str, actual: &str| {
            json!({"containerStatuses":
                [{"name": "c", "allocatedResources": {"cpu": allocated}, "resources": cpu(actual)}]})
        };
        assert_eq!(read(spec.clone(), status("200m", "100m")).total.milli_cpu, 300);
        assert_eq!(read(spec.clone(), status("200m", "500m")).total.milli_cpu, 500);
        let mut infeasible = status("200m", "100m");
        infeasible["conditions"] = json!([{"type": "PodResizePending", "reason": "Infeasible"}]);
        assert_eq!(read(spec, infeasible).total.milli_cpu, 200);
    }
}
