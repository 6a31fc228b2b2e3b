//! What a shim is told of a container.

use super::limits::limits;
use super::{Error, Runtime};
use crate::capabilities;
use crate::record::{Container, Sandbox};
use crate::seccomp::{Profile, compile};
use crate::shim::{ContainerSpec, MountSpec, ProcessSpec};
use crate::users;
use std::path::{Path, PathBuf};
use trireme_cri as cri;

impl Runtime {
    pub(super) fn spec(
        &self,
        sandbox: &Sandbox,
        container: &Container,
        rootfs: &Path,
        image: &crate::images::RunConfig,
    ) -> Result<ContainerSpec, Error> {
        let config = &container.config;
        let linux = config.linux.clone().unwrap_or_default();
        let security = linux.security_context.unwrap_or_default();
        let namespaces = security.namespace_options.clone().unwrap_or_default();
        let target = (namespaces.pid == cri::NamespaceMode::Target as i32).then_some(namespaces.target_id);
        let resources = linux.resources.unwrap_or_default();
        let mut args = if config.command.is_empty() { image.entrypoint.clone() } else { config.command.clone() };
        if !config.args.is_empty() {
            args.extend(config.args.clone());
        } else if config.command.is_empty() {
            args.extend(image.cmd.clone());
        }
        if args.is_empty() {
            return Err(Error::Start("no command specified".into()));
        }
        let gid = security.run_as_group.map(|g| g.value as u32);
        let user = match (&security.run_as_user, security.run_as_username.as_str()) {
            (Some(uid), _) => uid.value.to_string(),
            (None, "") => image.user.clone(),
            (None, name) => name.to_owned(),
        };
        let user = users::find(rootfs, &user, gid).map_err(Error::Start)?;
        let mut groups: Vec<u32> = security.supplemental_groups.iter().map(|g| *g as u32).collect();
        if security.supplemental_groups_policy == cri::SupplementalGroupsPolicy::Merge as i32 {
            groups.extend(user.groups.iter().filter(|g| !groups.contains(g)).copied().collect::<Vec<_>>());
        }
        let mut env: Vec<String> = image.env.clone();
        if !env.iter().any(|e| e.starts_with("PATH=")) {
            env.push("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
        }
        if config.tty && !env.iter().any(|e| e.starts_with("TERM=")) {
            env.push("TERM=xterm".into());
        }
        env.push(format!("HOSTNAME={}", sandbox.config.hostname));
        for pair in &config.envs {
            let key = format!("{}=", pair.key);
            env.retain(|e| !e.starts_with(&key));
            env.push(format!("{key}{}", pair.value));
        }
        if !env.iter().any(|e| e.starts_with("HOME=")) {
            env.push(if user.uid == 0 { "HOME=/root".into() } else { "HOME=/".to_owned() });
        }
        let capability = security.capabilities.clone().unwrap_or_default();
        let capabilities = if security.privileged {
            capabilities::all()
        } else {
            capabilities::of(&capability.add_capabilities, &capability.drop_capabilities).map_err(Error::Start)?
        };
        let profile = security.seccomp.clone().map(|s| (s.profile_type, s.localhost_ref));
        let filter = match &profile {
            Some((kind, reference)) if *kind == cri::security_profile::ProfileType::Localhost as i32 => {
                // Docker's and containerd's name for the same.
                let path = Path::new(reference.strip_prefix("localhost/").unwrap_or(reference));
                let made = Profile::load(path).and_then(|profile| compile(&profile));
                made.map_err(|e| Error::Start(e.to_string()))?
            }
            _ => Vec::new(),
        };
        let unconfined = cri::security_profile::ProfileType::Unconfined as i32;
        let process = ProcessSpec {
            args,
            env,
            cwd: PathBuf::from(if config.working_dir.is_empty() { &image.working_dir } else { &config.working_dir }),
            uid: user.uid,
            gid: user.gid,
            groups,
            tty: config.tty,
            stdin: config.stdin,
            capabilities,
            no_new_privileges: security.no_new_privs,
            seccomp: profile.is_some_and(|(kind, _)| kind != unconfined),
            filter,
            oom_score_adj: resources.oom_score_adj as i32,
        };
        let mut mounts = Vec::new();
        let resolv = self.dir(&sandbox.id).join("resolv.conf");
        let has = |path: &str| config.mounts.iter().any(|m| m.container_path == path);
        if resolv.exists() && !has("/etc/resolv.conf") {
            mounts.push(MountSpec { source: resolv, destination: "/etc/resolv.conf".into(), ..MountSpec::default() });
        }
        for mount in config.mounts.iter().filter(|m| m.image.is_none()) {
            let propagation = match mount.propagation() {
                cri::MountPropagation::PropagationHostToContainer => "rslave",
                cri::MountPropagation::PropagationBidirectional => "rshared",
                cri::MountPropagation::PropagationPrivate => "rprivate",
            };
            mounts.push(MountSpec {
                source: PathBuf::from(&mount.host_path),
                destination: PathBuf::from(&mount.container_path),
                readonly: mount.readonly,
                recursive_readonly: mount.recursive_read_only,
                propagation: propagation.into(),
            });
        }
        let paths = |list: &[String]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
        Ok(ContainerSpec {
            id: container.id.clone(),
            rootfs: rootfs.to_owned(),
            process,
            mounts,
            devices: config
                .devices
                .iter()
                .map(|d| (PathBuf::from(&d.host_path), PathBuf::from(&d.container_path)))
                .collect(),
            masked: paths(&security.masked_paths),
            readonly: paths(&security.readonly_paths),
            readonly_rootfs: security.readonly_rootfs,
            privileged: security.privileged,
            cgroup: container.cgroup.clone(),
            limits: limits(&resources),
            log: container.log.clone(),
            stdin_once: config.stdin_once,
            pid_of: target,
        })
    }
}
