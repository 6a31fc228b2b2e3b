//! The runtime as CRI's two services.

use crate::images::{Credentials, ErrorClass, Image, ImageError, PullRequest};
use crate::record::{Container, Sandbox};
use crate::runtime::{Error, Event, Runtime, now};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio_stream::{Stream, StreamExt, wrappers::BroadcastStream};
use tonic::{Request, Response, Status};
use trireme_cri::image_service_server::ImageService;
use trireme_cri::runtime_service_server::RuntimeService;
use trireme_cri::*;

/// Both services; clones share the runtime.
#[derive(Clone)]
pub struct Services {
    runtime: Arc<Runtime>,
    /// Where exec, attach and port-forward are streamed; empty when nobody serves them.
    streaming: String,
}

impl Services {
    /// The services of a runtime; `streaming` is the base URL of its streaming server.
    pub fn new(runtime: Arc<Runtime>, streaming: &str) -> Self {
        Self { runtime, streaming: streaming.to_owned() }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::NotFound { .. } => Status::not_found(text),
            Error::State(_) => Status::failed_precondition(text),
            Error::Invalid(_) => Status::invalid_argument(text),
            Error::Image(error) => image_status(&error),
            Error::Network(_) | Error::Start(_) | Error::Io { .. } => Status::unknown(text),
        }
    }
}

fn image_status(error: &ImageError) -> Status {
    let text = error.to_string();
    match error.class() {
        ErrorClass::NotFound => Status::not_found(text),
        ErrorClass::Invalid => Status::invalid_argument(text),
        _ => Status::unknown(text),
    }
}

type Answer<T> = Result<Response<T>, Status>;

fn matches(selector: &HashMap<String, String>, labels: &HashMap<String, String>) -> bool {
    selector.iter().all(|(k, v)| labels.get(k) == Some(v))
}

fn sandbox_state(sandbox: &Sandbox) -> PodSandboxState {
    if sandbox.ready { PodSandboxState::SandboxReady } else { PodSandboxState::SandboxNotready }
}

fn container_state(container: &Container) -> ContainerState {
    match (container.started, &container.exit) {
        (_, Some(_)) => ContainerState::ContainerExited,
        (Some(_), None) => ContainerState::ContainerRunning,
        (None, None) => ContainerState::ContainerCreated,
    }
}

fn sandbox_status(sandbox: &Sandbox) -> PodSandboxStatus {
    let namespaces =
        sandbox.config.linux.as_ref().and_then(|l| l.security_context.clone()).and_then(|s| s.namespace_options);
    let mut ips = sandbox.ips.iter().map(ToString::to_string);
    PodSandboxStatus {
        id: sandbox.id.clone(),
        metadata: sandbox.config.metadata.clone(),
        state: sandbox_state(sandbox) as i32,
        created_at: sandbox.created,
        network: Some(PodSandboxNetworkStatus {
            ip: ips.next().unwrap_or_default(),
            additional_ips: ips.map(|ip| PodIp { ip }).collect(),
        }),
        linux: Some(LinuxPodSandboxStatus { namespaces: Some(Namespace { options: namespaces }) }),
        labels: sandbox.config.labels.clone(),
        annotations: sandbox.config.annotations.clone(),
        runtime_handler: sandbox.handler.clone(),
    }
}

fn container_status(container: &Container) -> ContainerStatus {
    let config = &container.config;
    let exit = container.exit.clone();
    let (reason, message) = match &exit {
        None => ("", ""),
        Some(_) if !container.failure.is_empty() => ("StartError", container.failure.as_str()),
        Some(e) if e.oom => ("OOMKilled", ""),
        Some(e) if e.code == 0 => ("Completed", ""),
        Some(_) => ("Error", ""),
    };
    ContainerStatus {
        id: container.id.clone(),
        metadata: config.metadata.clone(),
        state: container_state(container) as i32,
        created_at: container.created,
        started_at: container.started.unwrap_or_default(),
        finished_at: exit.as_ref().map_or(0, |e| e.at),
        exit_code: exit.as_ref().map_or(0, |e| e.code),
        image: config.image.clone(),
        image_ref: container.image_ref.clone(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        mounts: config.mounts.clone(),
        log_path: container.log.display().to_string(),
        resources: config.linux.as_ref().map(|l| ContainerResources { linux: l.resources.clone(), windows: None }),
        image_id: container.image_id.clone(),
        user: container.user.as_ref().map(|user| ContainerUser { linux: Some(user.clone().into()) }),
    }
}

fn number(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

impl Services {
    fn stats(&self, container: &Container) -> ContainerStats {
        let usage = self.runtime.usage(container);
        let at = now();
        ContainerStats {
            attributes: Some(ContainerAttributes {
                id: container.id.clone(),
                metadata: container.config.metadata.clone(),
                labels: container.config.labels.clone(),
                annotations: container.config.annotations.clone(),
            }),
            cpu: Some(CpuUsage {
                timestamp: at,
                usage_core_nano_seconds: number(usage.cpu_nanos),
                ..CpuUsage::default()
            }),
            memory: Some(MemoryUsage {
                timestamp: at,
                working_set_bytes: number(usage.working_set),
                usage_bytes: number(usage.memory),
                rss_bytes: number(usage.rss),
                page_faults: number(usage.faults.0),
                major_page_faults: number(usage.faults.1),
                ..MemoryUsage::default()
            }),
            ..ContainerStats::default()
        }
    }

    /// With what the container wrote to its root file system.
    async fn whole_stats(&self, container: &Container) -> ContainerStats {
        let mut stats = self.stats(container);
        if let Ok(usage) = self.runtime.images().rootfs_usage(&container.id).await {
            stats.writable_layer = Some(FilesystemUsage {
                timestamp: now(),
                used_bytes: number(usage.bytes),
                inodes_used: number(usage.inodes),
                ..FilesystemUsage::default()
            });
        }
        stats
    }

    fn sandbox_stats(&self, sandbox: &Sandbox) -> PodSandboxStats {
        let usage = self.runtime.sandbox_usage(sandbox);
        let containers = self.runtime.containers();
        let own = containers.iter().filter(|c| c.sandbox == sandbox.id && c.exit.is_none() && c.started.is_some());
        let at = now();
        PodSandboxStats {
            attributes: Some(PodSandboxAttributes {
                id: sandbox.id.clone(),
                metadata: sandbox.config.metadata.clone(),
                labels: sandbox.config.labels.clone(),
                annotations: sandbox.config.annotations.clone(),
            }),
            linux: Some(LinuxPodSandboxStats {
                cpu: Some(CpuUsage {
                    timestamp: at,
                    usage_core_nano_seconds: number(usage.cpu_nanos),
                    ..CpuUsage::default()
                }),
                memory: Some(MemoryUsage {
                    timestamp: at,
                    working_set_bytes: number(usage.working_set),
                    usage_bytes: number(usage.memory),
                    rss_bytes: number(usage.rss),
                    ..MemoryUsage::default()
                }),
                process: Some(ProcessUsage { timestamp: at, process_count: number(usage.pids) }),
                containers: own.map(|c| self.stats(c)).collect(),
                ..LinuxPodSandboxStats::default()
            }),
            windows: None,
        }
    }

    fn event(&self, event: &Event) -> ContainerEventResponse {
        let sandbox = self.runtime.sandbox(&event.sandbox).ok();
        let containers = self.runtime.containers();
        ContainerEventResponse {
            container_id: event.container.clone(),
            container_event_type: event.kind as i32,
            created_at: event.at,
            pod_sandbox_status: sandbox.as_ref().map(sandbox_status),
            containers_statuses: containers
                .iter()
                .filter(|c| c.sandbox == event.sandbox)
                .map(container_status)
                .collect(),
        }
    }

    fn stream_url(&self, path: &str, id: &str) -> Result<String, Status> {
        if self.streaming.is_empty() {
            return Err(Status::unimplemented("no streaming server is configured"));
        }
        Ok(format!("{}/{path}/{id}", self.streaming))
    }
}

#[tonic::async_trait]
impl RuntimeService for Services {
    async fn version(&self, _: Request<VersionRequest>) -> Answer<VersionResponse> {
        Ok(Response::new(VersionResponse {
            version: "0.1.0".into(),
            runtime_name: "trireme".into(),
            runtime_version: self.runtime.version().to_owned(),
            runtime_api_version: "v1".into(),
        }))
    }

    async fn run_pod_sandbox(&self, request: Request<RunPodSandboxRequest>) -> Answer<RunPodSandboxResponse> {
        let request = request.into_inner();
        let config = request.config.ok_or_else(|| Status::invalid_argument("no sandbox config"))?;
        if !request.runtime_handler.is_empty() && request.runtime_handler != "trireme" {
            let handler = request.runtime_handler;
            return Err(Status::not_found(format!("no runtime for {handler:?} is configured")));
        }
        let pod_sandbox_id = self.runtime.run_sandbox(config, request.runtime_handler).await?;
        Ok(Response::new(RunPodSandboxResponse { pod_sandbox_id }))
    }

    async fn stop_pod_sandbox(&self, request: Request<StopPodSandboxRequest>) -> Answer<StopPodSandboxResponse> {
        self.runtime.stop_sandbox(&request.into_inner().pod_sandbox_id).await?;
        Ok(Response::new(StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(&self, request: Request<RemovePodSandboxRequest>) -> Answer<RemovePodSandboxResponse> {
        self.runtime.remove_sandbox(&request.into_inner().pod_sandbox_id).await?;
        Ok(Response::new(RemovePodSandboxResponse {}))
    }

    async fn pod_sandbox_status(&self, request: Request<PodSandboxStatusRequest>) -> Answer<PodSandboxStatusResponse> {
        let sandbox = self.runtime.sandbox(&request.into_inner().pod_sandbox_id)?;
        let containers = self.runtime.containers();
        Ok(Response::new(PodSandboxStatusResponse {
            status: Some(sandbox_status(&sandbox)),
            info: HashMap::new(),
            containers_statuses: containers.iter().filter(|c| c.sandbox == sandbox.id).map(container_status).collect(),
            timestamp: now(),
        }))
    }

    async fn list_pod_sandbox(&self, request: Request<ListPodSandboxRequest>) -> Answer<ListPodSandboxResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let wanted = |s: &Sandbox| {
            s.id.starts_with(&filter.id)
                && filter.state.as_ref().is_none_or(|f| f.state == sandbox_state(s) as i32)
                && matches(&filter.label_selector, &s.config.labels)
        };
        let items = self.runtime.sandboxes().into_iter().filter(wanted).map(|s| PodSandbox {
            state: sandbox_state(&s) as i32,
            id: s.id,
            metadata: s.config.metadata.clone(),
            created_at: s.created,
            labels: s.config.labels.clone(),
            annotations: s.config.annotations.clone(),
            runtime_handler: s.handler,
        });
        Ok(Response::new(ListPodSandboxResponse { items: items.collect() }))
    }

    async fn create_container(&self, request: Request<CreateContainerRequest>) -> Answer<CreateContainerResponse> {
        let request = request.into_inner();
        let config = request.config.ok_or_else(|| Status::invalid_argument("no container config"))?;
        let container_id = self.runtime.create_container(&request.pod_sandbox_id, config).await?;
        Ok(Response::new(CreateContainerResponse { container_id }))
    }

    async fn start_container(&self, request: Request<StartContainerRequest>) -> Answer<StartContainerResponse> {
        self.runtime.start_container(&request.into_inner().container_id).await?;
        Ok(Response::new(StartContainerResponse {}))
    }

    async fn stop_container(&self, request: Request<StopContainerRequest>) -> Answer<StopContainerResponse> {
        let request = request.into_inner();
        let grace = Duration::from_secs(request.timeout.max(0) as u64);
        self.runtime.stop_container(&request.container_id, grace).await?;
        Ok(Response::new(StopContainerResponse {}))
    }

    async fn remove_container(&self, request: Request<RemoveContainerRequest>) -> Answer<RemoveContainerResponse> {
        self.runtime.remove_container(&request.into_inner().container_id).await?;
        Ok(Response::new(RemoveContainerResponse {}))
    }

    async fn list_containers(&self, request: Request<ListContainersRequest>) -> Answer<ListContainersResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let wanted = |c: &Container| {
            c.id.starts_with(&filter.id)
                && c.sandbox.starts_with(&filter.pod_sandbox_id)
                && filter.state.as_ref().is_none_or(|f| f.state == container_state(c) as i32)
                && matches(&filter.label_selector, &c.config.labels)
        };
        let containers = self.runtime.containers().into_iter().filter(wanted).map(|c| trireme_cri::Container {
            state: container_state(&c) as i32,
            id: c.id,
            pod_sandbox_id: c.sandbox,
            metadata: c.config.metadata.clone(),
            image: c.config.image.clone(),
            image_ref: c.image_ref,
            created_at: c.created,
            labels: c.config.labels.clone(),
            annotations: c.config.annotations.clone(),
            image_id: c.image_id,
        });
        Ok(Response::new(ListContainersResponse { containers: containers.collect() }))
    }

    async fn container_status(&self, request: Request<ContainerStatusRequest>) -> Answer<ContainerStatusResponse> {
        let container = self.runtime.container(&request.into_inner().container_id)?;
        Ok(Response::new(ContainerStatusResponse {
            status: Some(container_status(&container)),
            info: HashMap::from([("pid".to_owned(), container.pid.to_string())]),
        }))
    }

    async fn update_container_resources(
        &self,
        request: Request<UpdateContainerResourcesRequest>,
    ) -> Answer<UpdateContainerResourcesResponse> {
        let request = request.into_inner();
        self.runtime.update_limits(&request.container_id, &request.linux.unwrap_or_default())?;
        Ok(Response::new(UpdateContainerResourcesResponse {}))
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<UpdatePodSandboxResourcesRequest>,
    ) -> Answer<UpdatePodSandboxResourcesResponse> {
        let request = request.into_inner();
        self.runtime.update_sandbox_limits(&request.pod_sandbox_id, request.resources.unwrap_or_default())?;
        Ok(Response::new(UpdatePodSandboxResourcesResponse {}))
    }

    async fn reopen_container_log(
        &self,
        request: Request<ReopenContainerLogRequest>,
    ) -> Answer<ReopenContainerLogResponse> {
        self.runtime.reopen_log(&request.into_inner().container_id).await?;
        Ok(Response::new(ReopenContainerLogResponse {}))
    }

    async fn exec_sync(&self, request: Request<ExecSyncRequest>) -> Answer<ExecSyncResponse> {
        const MOST: u64 = 16 << 20;
        let request = request.into_inner();
        let mut session = self.runtime.exec(&request.container_id, request.cmd, false, false).await?;
        let read = |file: Option<std::fs::File>| async move {
            let mut out = Vec::new();
            if let Some(file) = file {
                // More than that is not kept; the rest is read so that the program can go on.
                let mut file = tokio::fs::File::from_std(file);
                let _ = (&mut file).take(MOST).read_to_end(&mut out).await;
                let _ = tokio::io::copy(&mut file, &mut tokio::io::sink()).await;
            }
            out
        };
        let (stdout, stderr) = (session.stdout.take(), session.stderr.take());
        let all = async { tokio::join!(read(stdout), read(stderr), session.exit()) };
        let ended = match request.timeout {
            1.. => tokio::time::timeout(Duration::from_secs(request.timeout as u64), all).await.ok(),
            _ => Some(all.await),
        };
        let Some((stdout, stderr, exit)) = ended else {
            session.kill().await;
            let why = format!("timeout {}s exceeded: context deadline exceeded", request.timeout);
            return Err(Status::deadline_exceeded(why));
        };
        let exit = exit.map_err(|e| Status::unknown(e.to_string()))?;
        Ok(Response::new(ExecSyncResponse { stdout, stderr, exit_code: exit.code }))
    }

    async fn exec(&self, request: Request<ExecRequest>) -> Answer<ExecResponse> {
        let url = self.stream_url("exec", &request.into_inner().container_id)?;
        Ok(Response::new(ExecResponse { url }))
    }

    async fn attach(&self, request: Request<AttachRequest>) -> Answer<AttachResponse> {
        let url = self.stream_url("attach", &request.into_inner().container_id)?;
        Ok(Response::new(AttachResponse { url }))
    }

    async fn port_forward(&self, request: Request<PortForwardRequest>) -> Answer<PortForwardResponse> {
        let url = self.stream_url("portforward", &request.into_inner().pod_sandbox_id)?;
        Ok(Response::new(PortForwardResponse { url }))
    }

    async fn container_stats(&self, request: Request<ContainerStatsRequest>) -> Answer<ContainerStatsResponse> {
        let container = self.runtime.container(&request.into_inner().container_id)?;
        Ok(Response::new(ContainerStatsResponse { stats: Some(self.whole_stats(&container).await) }))
    }

    async fn list_container_stats(
        &self,
        request: Request<ListContainerStatsRequest>,
    ) -> Answer<ListContainerStatsResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let all = self.runtime.containers();
        let wanted = all.iter().filter(|c| {
            c.id.starts_with(&filter.id)
                && c.sandbox.starts_with(&filter.pod_sandbox_id)
                && matches(&filter.label_selector, &c.config.labels)
        });
        let mut stats = Vec::new();
        for container in wanted {
            stats.push(self.whole_stats(container).await);
        }
        Ok(Response::new(ListContainerStatsResponse { stats }))
    }

    async fn pod_sandbox_stats(&self, request: Request<PodSandboxStatsRequest>) -> Answer<PodSandboxStatsResponse> {
        let sandbox = self.runtime.sandbox(&request.into_inner().pod_sandbox_id)?;
        Ok(Response::new(PodSandboxStatsResponse { stats: Some(self.sandbox_stats(&sandbox)) }))
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<ListPodSandboxStatsRequest>,
    ) -> Answer<ListPodSandboxStatsResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let all = self.runtime.sandboxes();
        let wanted =
            all.iter().filter(|s| s.id.starts_with(&filter.id) && matches(&filter.label_selector, &s.config.labels));
        Ok(Response::new(ListPodSandboxStatsResponse { stats: wanted.map(|s| self.sandbox_stats(s)).collect() }))
    }

    async fn update_runtime_config(
        &self,
        _: Request<UpdateRuntimeConfigRequest>,
    ) -> Answer<UpdateRuntimeConfigResponse> {
        Ok(Response::new(UpdateRuntimeConfigResponse {}))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Answer<StatusResponse> {
        let trouble = self.runtime.network_trouble().await;
        let condition = |kind: &str, why: Option<String>| RuntimeCondition {
            r#type: kind.to_owned(),
            status: why.is_none(),
            reason: if why.is_some() { "NetworkPluginNotReady".into() } else { String::new() },
            message: why.unwrap_or_default(),
        };
        let conditions = vec![condition("RuntimeReady", None), condition("NetworkReady", trouble)];
        Ok(Response::new(StatusResponse { status: Some(RuntimeStatus { conditions }), ..StatusResponse::default() }))
    }

    async fn checkpoint_container(
        &self,
        _: Request<CheckpointContainerRequest>,
    ) -> Answer<CheckpointContainerResponse> {
        Err(Status::unimplemented("containers cannot be checkpointed"))
    }

    type GetContainerEventsStream = Pin<Box<dyn Stream<Item = Result<ContainerEventResponse, Status>> + Send>>;

    async fn get_container_events(&self, _: Request<GetEventsRequest>) -> Answer<Self::GetContainerEventsStream> {
        let services = self.clone();
        let events = BroadcastStream::new(self.runtime.subscribe()).map(move |event| match event {
            Ok(event) => Ok(services.event(&event)),
            // Who misses events must look at the state anew.
            Err(_) => Err(Status::data_loss("events were missed")),
        });
        Ok(Response::new(Box::pin(events)))
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<ListMetricDescriptorsRequest>,
    ) -> Answer<ListMetricDescriptorsResponse> {
        Ok(Response::new(ListMetricDescriptorsResponse::default()))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<ListPodSandboxMetricsRequest>,
    ) -> Answer<ListPodSandboxMetricsResponse> {
        Ok(Response::new(ListPodSandboxMetricsResponse::default()))
    }

    async fn runtime_config(&self, _: Request<RuntimeConfigRequest>) -> Answer<RuntimeConfigResponse> {
        let linux = LinuxRuntimeConfiguration { cgroup_driver: CgroupDriver::Cgroupfs as i32 };
        Ok(Response::new(RuntimeConfigResponse { linux: Some(linux) }))
    }
}

fn image(image: &Image) -> trireme_cri::Image {
    let user = image.user();
    trireme_cri::Image {
        id: image.id.to_string(),
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        size: image.size(),
        uid: user.uid.map(|value| Int64Value { value }),
        username: user.username,
        spec: Some(ImageSpec { image: image.id.to_string(), ..ImageSpec::default() }),
        pinned: image.pinned,
    }
}

#[tonic::async_trait]
impl ImageService for Services {
    async fn list_images(&self, request: Request<ListImagesRequest>) -> Answer<ListImagesResponse> {
        let wanted = request.into_inner().filter.and_then(|f| f.image).map(|i| i.image).filter(|i| !i.is_empty());
        let images = self.runtime.images().list(wanted.as_deref());
        Ok(Response::new(ListImagesResponse { images: images.iter().map(|i| image(i)).collect() }))
    }

    async fn image_status(&self, request: Request<ImageStatusRequest>) -> Answer<ImageStatusResponse> {
        let wanted = request.into_inner().image.unwrap_or_default().image;
        // An image that is not here is no error.
        let found = match self.runtime.images().get(&wanted) {
            Err(error) if error.class() == ErrorClass::Invalid => return Err(image_status(&error)),
            found => found.ok(),
        };
        Ok(Response::new(ImageStatusResponse { image: found.map(|i| image(&i)), info: HashMap::new() }))
    }

    async fn pull_image(&self, request: Request<PullImageRequest>) -> Answer<PullImageResponse> {
        let request = request.into_inner();
        let wanted = request.image.unwrap_or_default().image;
        let credentials = request.auth.map(|a| Credentials {
            username: a.username,
            password: a.password,
            auth: a.auth,
            identity_token: a.identity_token,
            ..Credentials::default()
        });
        let pull = PullRequest { image: wanted, credentials, progress: None };
        let pulled = self.runtime.images().pull(pull).await.map_err(|e| image_status(&e))?;
        Ok(Response::new(PullImageResponse { image_ref: pulled.id.to_string() }))
    }

    async fn remove_image(&self, request: Request<RemoveImageRequest>) -> Answer<RemoveImageResponse> {
        let wanted = request.into_inner().image.unwrap_or_default().image;
        self.runtime.images().remove(&wanted).await.map_err(|e| image_status(&e))?;
        Ok(Response::new(RemoveImageResponse {}))
    }

    async fn image_fs_info(&self, _: Request<ImageFsInfoRequest>) -> Answer<ImageFsInfoResponse> {
        let usage = self.runtime.images().usage().await.map_err(|e| image_status(&e))?;
        let system = FilesystemUsage {
            timestamp: now(),
            fs_id: Some(FilesystemIdentifier { mountpoint: self.runtime.images().root().display().to_string() }),
            used_bytes: number(usage.bytes),
            inodes_used: number(usage.inodes),
        };
        Ok(Response::new(ImageFsInfoResponse {
            image_filesystems: vec![system.clone()],
            container_filesystems: vec![system],
        }))
    }
}
