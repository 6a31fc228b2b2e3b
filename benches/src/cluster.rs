//! A cluster in processes of its own.

use crate::Failure;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use trireme_client::{Client, Https, HttpsConfig, Transport, tls_trusting};
use trireme_pki::{ClusterPki, ServingNames, certificates};

/// The binary that is measured: the one beside this.
pub fn binary() -> Result<PathBuf, Failure> {
    let path = std::env::current_exe()?.with_file_name("trireme");
    if path.exists() { Ok(path) } else { Err(format!("{} is missing: build it first", path.display()).into()) }
}

/// `trireme up` on a data directory. Taken down, with its workloads, when dropped.
pub struct Cluster {
    dir: PathBuf,
    port: u16,
    process: Child,
    started: Instant,
}

fn setting(name: &str, default: u16) -> u16 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

impl Cluster {
    /// Starts it; it may not be ready yet.
    pub fn start(dir: &Path, more: &[&str]) -> Result<Self, Failure> {
        let (port, net) = (setting("TRIREME_BENCH_PORT", 7543), setting("TRIREME_BENCH_NET", 70));
        let started = Instant::now();
        let process = Command::new(binary()?)
            .arg("up")
            .arg("--data-dir")
            .arg(dir)
            .args(["--https-listen-port", &port.to_string(), "--kubelet-port", "0"])
            .args(["--cluster-cidr", &format!("10.{net}.0.0/16"), "--service-cidr", &format!("10.{}.0.0/16", net + 1)])
            .args(more)
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { dir: dir.to_owned(), port, process, started })
    }

    /// Waits until `/readyz` says ok; tells how long after the start that was.
    pub async fn ready(&mut self) -> Result<Duration, Failure> {
        let deadline = Duration::from_secs(60);
        loop {
            if let Some(status) = self.process.try_wait()? {
                return Err(format!("trireme up ended: {status}").into());
            }
            if self.is_ready().await {
                return Ok(self.started.elapsed());
            }
            if self.started.elapsed() > deadline {
                return Err("not ready within a minute".into());
            }
            // There is no event before the port is there to ask.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn is_ready(&self) -> bool {
        // Written last: before it is there the keys are still being made, and to open them would make others.
        if !self.dir.join("kubeconfig").exists() {
            return false;
        }
        let Ok(client) = self.client() else { return false };
        client.request(http::Method::GET, "/readyz", None).await.is_ok_and(|answer| answer.body() == "ok")
    }

    /// The administrator's transport.
    pub fn transport(&self) -> Result<Arc<dyn Transport>, Failure> {
        let pki = ClusterPki::open(&self.dir.join("pki"), &ServingNames::default())?;
        Ok(Arc::new(https(&pki, self.port)?))
    }

    /// The administrator.
    pub fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(self.transport()?, "trireme-bench"))
    }

    /// All processes: `trireme up`, its children, and the shims, which are nobody's children.
    pub fn processes(&self) -> Result<BTreeSet<u32>, Failure> {
        let dir = self.dir.to_string_lossy().into_owned();
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir("/proc")? {
            let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&command).contains(&dir) && pid != std::process::id() {
                found.insert(pid);
            }
        }
        Ok(found)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let uninstalled = binary().map(|binary| {
            Command::new(binary)
                .args(["uninstall", "--yes", "--data-dir"])
                .arg(&self.dir)
                .stdout(Stdio::null())
                .status()
        });
        if !matches!(uninstalled, Ok(Ok(status)) if status.success()) {
            crate::say(&format!("{} could not be uninstalled", self.dir.display()));
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

/// A client of a server on this machine that has these keys.
pub fn https(pki: &ClusterPki, port: u16) -> Result<Https, Failure> {
    let authority = certificates(pki.server_ca.certificate(), "the server CA")?;
    let tls = tls_trusting(authority)?.with_client_auth_cert(pki.admin.chain()?, pki.admin.private_key()?)?;
    Ok(Https::new(HttpsConfig { server: format!("https://127.0.0.1:{port}"), tls, token: None }))
}
