//! Containers: made, started, stopped, removed.

use super::{Error, Runtime, failed, new_id, now, pod_group};
use crate::link::Link;
use crate::record::Container;
use crate::shim::{ContainerSpec, Exit, MountSpec, Reply, Request};
use crate::users;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use trireme_cri as cri;

impl Runtime {
    /// Makes a container; it is not started.
    pub(crate) async fn create_container(&self, sandbox: &str, config: cri::ContainerConfig) -> Result<String, Error> {
        let sandbox = self.sandbox(sandbox)?;
        if !sandbox.ready {
            return Err(Error::State(format!("sandbox container {:?} is not running", sandbox.id)));
        }
        let id = new_id();
        let wanted = config.image.clone().unwrap_or_default().image;
        let image = self.images.get(&wanted)?;
        self.images.mount_rootfs(&id, &wanted).await?;
        let log = match config.log_path.as_str() {
            "" => PathBuf::new(),
            path => Path::new(&sandbox.config.log_directory).join(path),
        };
        let container = Container {
            cgroup: format!("{}/{id}", pod_group(&self.config.cgroup, &sandbox.config)),
            id: id.clone(),
            sandbox: sandbox.id.clone(),
            config: Arc::new(config),
            image_id: image.id.to_string(),
            image_ref: image.repo_digests.first().cloned().unwrap_or_else(|| image.id.to_string()),
            log,
            created: now(),
            started: None,
            pid: 0,
            exit: None,
            failure: String::new(),
            user: None,
        };
        self.keep_container(&container);
        self.state.lock().containers.insert(id.clone(), container);
        self.happened(&id, &sandbox.id, cri::ContainerEventType::ContainerCreatedEvent);
        Ok(id)
    }

    /// Starts a container.
    pub(crate) async fn start_container(&self, id: &str) -> Result<(), Error> {
        let container = self.container(id)?;
        if container.started.is_some() {
            return Err(Error::State(format!("container {:?} is in state that cannot be started", container.id)));
        }
        let sandbox = self.sandbox(&container.sandbox)?;
        let started = async {
            let rootfs = self
                .images
                .mount_rootfs(&container.id, &container.config.image.clone().unwrap_or_default().image)
                .await?;
            let image = self.images.get(&container.image_id)?;
            let mut spec = self.spec(&sandbox, &container, &rootfs.path, &image.run)?;
            self.mount_images(&container, &mut spec).await?;
            let process = &spec.process;
            let user = users::User { uid: process.uid, gid: process.gid, groups: process.groups.clone() };
            let mut link = Link::open(&self.dir(&sandbox.id)).await.map_err(failed("reach the shim"))?;
            match link.call(&Request::Start(Box::new(spec))).await.map_err(failed("reach the shim"))? {
                Reply::Started { pid, at, .. } => Ok((pid, at, user)),
                Reply::Failed { why } => Err(Error::Start(why)),
                _ => Err(Error::State("the shim says something else".into())),
            }
        }
        .await;
        let mut state = self.state.lock();
        let Some(known) = state.containers.get_mut(&container.id) else { return Ok(()) };
        match started {
            Ok((pid, at, user)) => {
                (known.pid, known.started, known.user) = (pid, Some(at), Some(user));
                self.keep_container(known);
                drop(state);
                self.happened(&container.id, &sandbox.id, cri::ContainerEventType::ContainerStartedEvent);
                Ok(())
            }
            Err(error) => {
                known.started = Some(now());
                known.failure = error.to_string();
                known.exit = Some(Exit { code: 128, at: now(), oom: false });
                self.keep_container(known);
                Err(error)
            }
        }
    }

    /// Mounts the images that a container has as volumes.
    pub(super) async fn mount_images(&self, container: &Container, spec: &mut ContainerSpec) -> Result<(), Error> {
        for (i, mount) in container.config.mounts.iter().enumerate() {
            let Some(image) = mount.image.as_ref().filter(|i| !i.image.is_empty()) else { continue };
            let volume = self.images.mount_volume(&volume_key(&container.id, i), &image.image).await?;
            let sub = Path::new(&mount.image_sub_path);
            if !sub.components().all(|c| matches!(c, std::path::Component::Normal(_))) {
                return Err(Error::Invalid(format!("image sub path {sub:?} leads out of the image")));
            }
            let source = volume.path.join(sub);
            let inside = source.canonicalize().is_ok_and(|real| real.starts_with(&volume.path));
            if !inside {
                return Err(Error::Start(format!("failed to mount image volume: {sub:?} is not in the image")));
            }
            spec.mounts.push(MountSpec {
                source,
                destination: PathBuf::from(&mount.container_path),
                readonly: true,
                ..MountSpec::default()
            });
        }
        Ok(())
    }

    /// Stops a container: its stop signal, then after `grace` the end.
    pub(crate) async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Error> {
        let Ok(container) = self.container(id) else { return Ok(()) };
        if container.started.is_none() || container.exit.is_some() {
            return Ok(());
        }
        let signal = match self.images.get(&container.image_id) {
            Ok(image) => signal_number(&image.run.stop_signal),
            Err(_) => libc::SIGTERM,
        };
        if !grace.is_zero() {
            self.signal(&container, signal, false).await?;
            if self.wait_end(&container.id, grace).await {
                return Ok(());
            }
        }
        self.signal(&container, libc::SIGKILL, true).await?;
        if self.wait_end(&container.id, Duration::from_secs(30)).await {
            return Ok(());
        }
        Err(Error::State(format!("container {:?} does not end", container.id)))
    }

    pub(super) async fn signal(&self, container: &Container, signal: i32, all: bool) -> Result<(), Error> {
        let mut link = Link::open(&self.dir(&container.sandbox)).await.map_err(failed("reach the shim"))?;
        let request = Request::Kill { id: container.id.clone(), signal, all };
        link.call(&request).await.map_err(failed("reach the shim")).map(drop)
    }

    /// Waits for a container's end; false when it takes longer.
    pub(crate) async fn wait_end(&self, id: &str, patience: Duration) -> bool {
        let mut changes = self.ended.subscribe();
        let over = || self.container(id).map_or(true, |c| c.exit.is_some());
        let wait = async {
            while !over() {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(patience, wait).await.is_ok()
    }

    /// Removes a container, stopping it if it runs; one that is gone is no error.
    pub(crate) async fn remove_container(&self, id: &str) -> Result<(), Error> {
        let Ok(container) = self.container(id) else { return Ok(()) };
        if container.started.is_some() && container.exit.is_none() {
            self.stop_container(&container.id, Duration::ZERO).await?;
        }
        if let Ok(mut link) = Link::open(&self.dir(&container.sandbox)).await {
            let _ = link.call(&Request::Forget { id: container.id.clone() }).await;
        }
        for (i, mount) in container.config.mounts.iter().enumerate() {
            if mount.image.is_some() {
                self.images.remove_rootfs(&volume_key(&container.id, i)).await?;
            }
        }
        self.images.remove_rootfs(&container.id).await?;
        self.cgroups.remove(&container.cgroup);
        let dir = self.dir(&container.sandbox);
        for name in [format!("{}.container", container.id), format!("{}.exit", container.id)] {
            let _ = fs::remove_file(dir.join(name));
        }
        self.state.lock().containers.remove(&container.id);
        self.happened(&container.id, &container.sandbox, cri::ContainerEventType::ContainerDeletedEvent);
        Ok(())
    }
}

/// The name of an image's mount for a container.
fn volume_key(container: &str, mount: usize) -> String {
    format!("{container}-{mount}")
}

/// A signal by name or number; SIGTERM for what is neither.
fn signal_number(text: &str) -> i32 {
    let name = text.trim().trim_start_matches("SIG");
    match name {
        "HUP" => libc::SIGHUP,
        "INT" => libc::SIGINT,
        "QUIT" => libc::SIGQUIT,
        "KILL" => libc::SIGKILL,
        "USR1" => libc::SIGUSR1,
        "USR2" => libc::SIGUSR2,
        "WINCH" => libc::SIGWINCH,
        "RTMIN+3" => 37,
        _ => name.parse().ok().filter(|n| (1..65).contains(n)).unwrap_or(libc::SIGTERM),
    }
}
