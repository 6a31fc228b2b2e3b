//! Jobs: pods that run until enough of them have succeeded.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use serde_json::json;
use trireme_client::{Client, EventKind, Informer, Key, ObjectRef, Patch};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::expectations::Expectations;
use crate::pod_control::{Owned, PodControl, owners_of_pod};
use crate::{Clock, Error, merge_patch, pod_template, selector, view};

mod decide;
mod failure_policy;
mod indexes;

use decide::{Decision, FINALIZER, INDEX, INDEX_FAILURES, NewPod};

/// Who manages jobs that do not name anybody else (KEP-4368).
const MANAGER: &str = "kubernetes.io/job-controller";

pub(crate) struct Jobs {
    client: Client,
    jobs: Informer<Job>,
    pods: Informer<Pod>,
    control: PodControl,
    expectations: Arc<Expectations>,
    clock: Clock,
}

impl Jobs {
    pub(crate) fn new(context: &Context) -> Self {
        let pods = context.informer::<Pod>();
        let expectations = Arc::new(Expectations::default());
        let recorder = context.recorder("job-controller");
        Self {
            client: context.client.clone(),
            jobs: context.informer(),
            control: PodControl::new(&context.client, pods.clone(), recorder, Arc::clone(&expectations)),
            pods,
            expectations,
            clock: context.clock.clone(),
        }
    }

    /// Lets go of pods whose job is gone, so that they can go, too.
    async fn release_orphans(&self, key: &Key, uid: Option<&str>) -> Result<(), Error> {
        for entry in self.pods.in_namespace(&key.namespace) {
            let owner = entry.meta.controller.as_ref().filter(|owner| &*owner.kind == "Job" && owner.name == key.name);
            if owner.is_some_and(|owner| Some(&*owner.uid) != uid) {
                self.release(&entry.decode_as::<view::Pod>()?).await?;
            }
        }
        Ok(())
    }

    /// Takes the finalizer off a pod.
    async fn release(&self, pod: &view::Pod) -> Result<(), Error> {
        let left: Vec<&String> = pod.metadata.finalizers.iter().filter(|f| *f != FINALIZER).collect();
        if left.len() == pod.metadata.finalizers.len() {
            return Ok(());
        }
        let patch = json!({"metadata": {
            "uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version, "finalizers": left}});
        let api = self.client.namespaced::<view::PodKind>(&pod.metadata.namespace);
        match api.patch(&pod.metadata.name, None, &Patch::Merge(patch)).await {
            Err(error) if error.is_not_found() => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    fn tell(&self, about: &ObjectRef, decision: &Decision) {
        if let Some(end) = &decision.ended {
            if end.success {
                self.control.recorder().record(about, EventKind::Normal, "Completed", "Job completed");
            } else {
                self.control.recorder().record(about, EventKind::Warning, &end.reason, end.message.clone());
            }
        }
        match decision.suspended {
            Some(true) => self.control.recorder().record(about, EventKind::Normal, "Suspended", "Job suspended"),
            Some(false) => self.control.recorder().record(about, EventKind::Normal, "Resumed", "Job resumed"),
            None => {}
        }
    }
}

/// The pod of a job, for one of its indexes if it has any.
fn new_pod(job: &Job, owned: &Owned<Job>, wanted: &NewPod) -> Pod {
    let spec = job.spec.clone().unwrap_or_default();
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
    let mut pod = pod_template::pod(&spec.template, namespace, owned.reference());
    pod.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
    let Some(index) = wanted.index else { return pod };
    let index_text = index.to_string();
    pod.metadata.generate_name = Some(pod_template::prefix(&format!("{name}-{index}")));
    pod.metadata.labels.get_or_insert_default().insert(INDEX.to_owned(), index_text.clone());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_owned(), index_text);
    if let Some(failures) = wanted.failures {
        annotations.insert(INDEX_FAILURES.to_owned(), failures.to_string());
    }
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{name}-{index}"));
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        let env = container.env.get_or_insert_default();
        if !env.iter().any(|variable| variable.name == "JOB_COMPLETION_INDEX") {
            let field = ObjectFieldSelector { field_path: format!("metadata.labels['{INDEX}']"), ..Default::default() };
            env.push(EnvVar {
                name: "JOB_COMPLETION_INDEX".to_owned(),
                value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
                ..EnvVar::default()
            });
        }
    }
    pod
}

impl Controller for Jobs {
    const NAME: &'static str = "job-controller";
    const ACCOUNT: Option<&'static str> = Some("job-controller");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on_itself(&self.jobs);
        let this = Arc::clone(self);
        watches.on(&self.pods, move |change| {
            this.expectations.observe(change);
            owners_of_pod::<Job>(change, &this.jobs, |job, labels| {
                job.spec.as_ref().and_then(|spec| spec.selector.as_ref()).is_some_and(|s| selector::matches(s, labels))
            })
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.jobs.find(key) else {
            self.release_orphans(key, None).await?;
            return Ok(Requeue::Never);
        };
        let job = entry.decode()?;
        let uid = &*entry.meta.uid;
        self.release_orphans(key, Some(uid)).await?;
        let Some(spec) = &job.spec else { return Ok(Requeue::Never) };
        if spec.managed_by.as_deref().is_some_and(|manager| manager != MANAGER) {
            return Ok(Requeue::Never);
        }
        let Some(wanted) = spec.selector.as_ref().filter(|selector| !selector::is_empty(selector)) else {
            return Ok(Requeue::Never);
        };
        let up_to_date = self.expectations.met(uid);
        let owned = Owned::<Job>::new(&job.metadata, entry.meta.deleting);
        let old = job.status.clone().unwrap_or_default();
        if decide::is_finished(&old) {
            self.expectations.forget(uid);
            for entry in self.pods.controlled_by(uid) {
                self.release(&entry.decode_as::<view::Pod>()?).await?;
            }
            return Ok(Requeue::Never);
        }
        let mut pods = self.control.claim(&owned, |labels| selector::matches(wanted, labels)).await?;
        pods.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        let mut decision = decide::decide(spec, &old, &pods, self.clock.now());
        let about = ObjectRef::to::<Job>(&job.metadata);
        let mut failure = None;
        if up_to_date && !entry.meta.deleting {
            failure = self.control.delete(&owned, &about, &decision.delete).await;
            let create: Vec<Pod> = decision.create.iter().map(|wanted| new_pod(&job, &owned, wanted)).collect();
            failure = failure.or(self.control.create_all(&owned, &about, &create).await);
        } else {
            unchanged_counts(&mut decision, &old);
        }
        if let Some(patch) = merge_patch::status(&job.metadata, &old, &decision.status)? {
            self.client.namespaced::<Job>(&key.namespace).patch(&key.name, Some("status"), &patch).await?;
            self.tell(&about, &decision);
        }
        for pod in &decision.release {
            match self.release(pod).await {
                Err(error) if error.is_race() => failure = failure.or(Some(error)),
                other => other?,
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(decision.again.map_or(Requeue::Never, Requeue::seconds)),
        }
    }
}

/// When nothing was created or deleted in this step, the counts that foresee it are those of before.
fn unchanged_counts(decision: &mut Decision, old: &JobStatus) {
    if !decision.create.is_empty() || !decision.delete.is_empty() {
        decision.status.active = old.active;
        decision.status.terminating = old.terminating;
    }
}

#[cfg(test)]
mod tests;
