use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trireme_client::{Client, Informers, Key};

use crate::binding::Steps;
use crate::config::{BadConfiguration, Configuration, DEFAULT_SCHEDULER};
use crate::core::{Core, Decision, Failure, Placed};
use crate::framework::Status;
use crate::intake::Intake;
use crate::queue::Backoff;
use crate::report::{Nominated, Report};
use crate::{Approvals, Ended, Handle, Metrics, Profiles, plugins, view};

/// How many bindings may be on their way at once.
const BINDINGS: usize = 256;
/// How many decisions are made before new changes are looked at.
const BATCH: usize = 64;

/// The running scheduler: one task that owns all state.
pub struct Scheduler {
    core: Core,
    intake: Intake,
    report: Report,
    approvals: Approvals,
    metrics: Arc<Metrics>,
    bindings: Arc<Semaphore>,
    news: (mpsc::Sender<News>, mpsc::Receiver<News>),
}

/// What tasks beside the scheduler's own have to say.
enum News {
    /// A binding has ended.
    Binding(Box<Placed>, Result<(), Status>),
    /// What was done in the background for a pod has ended.
    Helped(Key),
}

impl Scheduler {
    /// Starts scheduling until `shutdown`; what is done is counted in `metrics`.
    ///
    /// # Errors
    /// A configuration that could not work.
    pub fn start(
        config: &Configuration,
        client: Client,
        informers: &Arc<Informers>,
        metrics: Arc<Metrics>,
        shutdown: CancellationToken,
    ) -> Result<tokio::task::JoinHandle<()>, BadConfiguration> {
        let approvals = Approvals::default();
        let mut intake = Intake::start(informers);
        let handle = Handle { client: client.clone(), informers: Arc::clone(informers), approvals: approvals.clone() };
        let sources = plugins::Sources::informed(&handle, &mut intake);
        let profiles = Profiles::new(plugins::profiles(config, &sources)?);
        let seconds = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let backoff = Backoff {
            first: seconds(config.pod_initial_backoff_seconds),
            most: seconds(config.pod_max_backoff_seconds),
            ..Backoff::default()
        };
        let scheduler = Self {
            report: Report::new(client, DEFAULT_SCHEDULER),
            core: Core::new(Arc::new(profiles), backoff, SmallRng::from_os_rng()),
            intake,
            approvals,
            metrics,
            bindings: Arc::new(Semaphore::new(BINDINGS)),
            news: mpsc::channel(BINDINGS),
        };
        Ok(tokio::spawn(scheduler.run(shutdown)))
    }

    async fn run(mut self, shutdown: CancellationToken) {
        // Deciding with half a picture would put too much on the nodes that are seen first.
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = self.intake.synced() => {}
        }
        let dirty = self.intake.dirty();
        loop {
            self.take_changes();
            while let Ok(news) = self.news.1.try_recv() {
                self.take(news);
            }
            let mut decided = 0;
            while decided < BATCH
                && self.bindings.available_permits() > 0
                && let Some(attempt) = self.core.next(Instant::now())
            {
                decided += 1;
                let start = Instant::now();
                let decisions = self.core.decide_together(attempt, start);
                let took = start.elapsed();
                for decision in decisions {
                    self.carry_out(decision, took);
                }
            }
            let waits = (self.core.cluster.len(), self.core.cluster.pods(), self.core.cluster.assumed());
            self.metrics.sizes(self.core.queue.counts(), waits);
            if decided == BATCH {
                tokio::task::yield_now().await;
                continue;
            }
            let due = self.core.queue.due();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = dirty.changed() => {}
                Some(news) = self.news.1.recv() => self.take(news),
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    fn carry_out(&mut self, decision: Decision, took: Duration) {
        match decision {
            Decision::Placed(placed) => {
                self.metrics.attempt(&placed.attempt.pod.scheduler, Ended::Scheduled, took);
                self.bind(placed);
            }
            Decision::Failed(failure) => {
                let rejected = failure.reason == "Unschedulable";
                let ended = if rejected { Ended::Unschedulable } else { Ended::Error };
                self.metrics.attempt(&failure.attempt.pod.scheduler, ended, took);
                if !failure.victims.is_empty() {
                    self.metrics.preemption(failure.victims.len());
                }
                self.failed(failure);
            }
        }
    }

    fn take_changes(&mut self) {
        let (changed, now) = (self.intake.take(), Instant::now());
        for key in changed.namespaces {
            let labels = self.intake.namespaces.find(&key);
            let labels = labels.map(|entry| entry.meta.labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect());
            self.core.namespace_changed(&key.name, labels, now);
        }
        for key in changed.nodes {
            let node = match self.intake.nodes.find(&key).map(|entry| entry.decode()).transpose() {
                Ok(node) => node,
                Err(error) => {
                    tracing::warn!(node = %key, %error, "a node cannot be read");
                    continue;
                }
            };
            if let Err(error) = self.core.node_changed(&key.name, node, now) {
                tracing::warn!(node = %key, %error, "a node's resources cannot be read");
            }
        }
        for key in changed.pods {
            let pod = match self.intake.pods.find(&key).map(|entry| entry.decode()).transpose() {
                Ok(pod) => pod,
                Err(error) => {
                    tracing::warn!(pod = %key, %error, "a pod cannot be read");
                    continue;
                }
            };
            if let Err(error) = self.core.pod_changed(&key, pod, now) {
                tracing::warn!(pod = %key, %error, "a pod's resources cannot be read");
            }
        }
        for ((source, _), (old, new)) in changed.objects {
            self.core.object_changed(source, old, new, now);
        }
    }

    fn take(&mut self, news: News) {
        match news {
            News::Helped(key) => self.core.release(&key, Instant::now()),
            News::Binding(placed, Ok(())) => {
                let pod = &placed.attempt.pod;
                if let Some(profile) = self.core.profiles().get(&pod.scheduler) {
                    for (_, enabled) in profile.at(crate::framework::Point::PostBind) {
                        enabled.plugin.post_bind(pod, &placed.node);
                    }
                }
                self.metrics.bound(placed.attempt.attempts, placed.attempt.first.elapsed());
                self.report.scheduled(pod, &placed.node);
                self.core.bound(&pod.key);
            }
            News::Binding(mut placed, Err(status)) => {
                tracing::debug!(pod = %placed.attempt.pod.key, %status, "a binding failed");
                if let Some(failure) = self.core.unbound(&mut placed, &status, Instant::now()) {
                    self.failed(failure);
                }
            }
        }
    }

    fn bind(&mut self, placed: Placed) {
        let profiles = Arc::clone(self.core.profiles());
        let Some(profile) = profiles.get(&placed.attempt.pod.scheduler) else { return };
        let steps = Steps::plan(profile, &placed.attempt.pod, &placed.node, &placed.state, &self.approvals);
        let mut placed = Box::new(placed);
        let steps = match steps {
            Ok(steps) => steps,
            Err(status) => {
                if let Some(failure) = self.core.unbound(&mut placed, &status, Instant::now()) {
                    self.failed(failure);
                }
                return;
            }
        };
        let (news, permits) = (self.news.0.clone(), Arc::clone(&self.bindings));
        tokio::spawn(async move {
            // Who waits for others is not counted: the bindings that he waits for may be among those that are held up.
            let permit = if steps.are_immediate() { permits.acquire_owned().await.ok() } else { None };
            let result = steps.run().await;
            drop(permit);
            // The receiver is gone only when the scheduler has stopped.
            let _ = news.send(News::Binding(placed, result)).await;
        });
    }

    fn failed(&mut self, failure: Failure) {
        let pod = &failure.attempt.pod;
        tracing::debug!(pod = %pod.key, message = failure.message, "no node fits");
        let known: Option<view::Pod> = self.intake.pods.find(&pod.key).and_then(|entry| entry.decode().ok());
        let status = known.as_ref().map(|known| &known.status);
        self.report.failed(pod, failure.reason, failure.message, &failure.nominated, status);
        for displaced in &failure.displaced {
            self.report.nominate(displaced, &Nominated::Clear);
        }
        if let Some(effect) = failure.effect {
            let (news, key) = (self.news.0.clone(), pod.key.clone());
            tokio::spawn(async move {
                effect.await;
                // The receiver is gone only when the scheduler has stopped.
                let _ = news.send(News::Helped(key)).await;
            });
        }
    }
}
