//! Pulls from a real registry: Debian's `docker-registry` on loopback.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)] // Helpers of tests fail loudly as tests do.

mod images_fixture;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use images_fixture::*;
use tempfile::TempDir;
use trireme_runtime::images::{
    Credentials, Digest, ErrorClass, HostConfig, Images, ImagesOptions, Proxy, PullRequest, Registries, TlsConfig,
};

/// A registry process, ended with its directory when dropped.
struct Registry {
    child: Child,
    address: SocketAddr,
    dir: TempDir,
    authorization: &'static str,
}

const NAME_AND_PASSWORD: (&str, &str) = ("user", "secret");
// bcrypt of "secret", cost 5, made with crypt(3).
const HTPASSWD: &str = "user:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a";

impl Registry {
    fn start(with_password: bool) -> Option<Registry> {
        Registry::start_with(with_password, None)
    }

    /// `tls` holds `cert.pem` and `key.pem`.
    fn start_with(with_password: bool, tls: Option<&Path>) -> Option<Registry> {
        if !is_root() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let storage = dir.path().join("data");
        let password_file = dir.path().join("htpasswd");
        std::fs::write(&password_file, format!("{HTPASSWD}\n")).unwrap();
        let mut config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp:\n  addr: '127.0.0.1:0'\n",
            storage.display()
        );
        if let Some(tls) = tls.map(Path::display) {
            config.push_str(&format!("  tls: {{certificate: {tls}/cert.pem, key: {tls}/key.pem}}\n"));
        }
        if with_password {
            config.push_str(&format!("auth:\n  htpasswd: {{realm: test, path: {}}}\n", password_file.display()));
        }
        let file = dir.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let spawned = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => {
                eprintln!("skipped: docker-registry cannot be started ({error}); apt-get install docker-registry");
                return None;
            }
        };
        let (found, address) = mpsc::channel();
        let stderr = child.stderr.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("listening on ") {
                    let text: String =
                        rest.chars().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':')).collect();
                    let _ = found.send(text.parse::<SocketAddr>().unwrap());
                }
            }
        });
        let address = address.recv_timeout(Duration::from_secs(20)).expect("docker-registry says where it listens");
        let authorization = if with_password { "Authorization: Basic dXNlcjpzZWNyZXQ=\r\n" } else { "" };
        Some(Registry { child, address, dir, authorization })
    }

    fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    fn push(&self, repository: &str, tag: &str, made: &Made) {
        for blob in made.layers.iter().chain([&made.config]) {
            self.push_blob(repository, blob);
        }
        self.push_manifest(repository, tag, &made.media_type, &made.manifest);
    }

    fn push_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) {
        let path = format!("/v2/{repository}/manifests/{tag}");
        let (status, _) = self.call("PUT", &path, media_type, bytes);
        assert_eq!(status, 201, "manifest {tag}");
    }

    fn push_blob(&self, repository: &str, bytes: &[u8]) {
        let (status, head) = self.call("POST", &format!("/v2/{repository}/blobs/uploads/"), "x", b"");
        assert_eq!(status, 202, "{head}");
        let location = head.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap().trim();
        let path = location.split_once(&self.address.to_string()).map_or(location, |(_, path)| path);
        let path = format!("{path}&digest={}", Digest::of(bytes));
        let (status, head) = self.call("PUT", &path, "application/octet-stream", bytes);
        assert_eq!(status, 201, "{head}");
    }

    fn call(&self, method: &str, path: &str, media_type: &str, body: &[u8]) -> (u16, String) {
        let mut socket = TcpStream::connect(self.address).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n{}Connection: close\r\n\r\n",
            self.address,
            body.len(),
            self.authorization
        );
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(body).unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        (status, answer)
    }

    /// The file in which the registry keeps a blob.
    fn blob_file(&self, digest: Digest) -> std::path::PathBuf {
        let hex = digest.hex();
        self.dir.path().join(format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_of_every_packing_come_and_are_mounted() {
    let Some(registry) = Registry::start(false) else { return };
    let root = store_dir();
    let images = open(root.path()).await;
    for (name, packing) in [("plain", Packing::Plain), ("gzip", Packing::Gzip), ("zstd", Packing::Zstd)] {
        registry.push(&format!("test/{name}"), "v1", &small(name, packing));
        let image = images.pull(PullRequest::new(registry.name(&format!("test/{name}:v1")))).await.unwrap();
        assert_eq!(image.layers.len(), 2);
        let rootfs = images.mount_rootfs(&format!("c-{name}"), &image.id.to_string()).await.unwrap();
        assert_eq!(read(&rootfs.path.join("bin/app")), name);
        assert!(read(&rootfs.path.join("srv/page")).starts_with("page page"));
        assert!(!rootfs.path.join("etc/gone").exists(), "the whiteout hides it");
        std::fs::write(rootfs.path.join("written"), "w").unwrap();
        assert_eq!(read(&rootfs.upper.join("written")), "w");
        images.remove_rootfs(&format!("c-{name}")).await.unwrap();
        assert!(!rootfs.path.exists());
    }
    let mounts = read(Path::new("/proc/self/mountinfo"));
    assert!(!mounts.contains(root.path().to_str().unwrap()), "a mount stayed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_wanted_and_taken() {
    let Some(registry) = Registry::start(true) else { return };
    registry.push("private/app", "v1", &small("private", Packing::Gzip));
    let root = store_dir();
    let images = open(root.path()).await;
    let request = PullRequest::new(registry.name("private/app:v1"));
    let error = images.pull(request.clone()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unauthorized);
    assert!(error.to_string().contains("no basic auth credentials"), "{error}");
    let wrong = Credentials { username: "user".into(), password: "no".into(), ..Credentials::default() };
    let error = images.pull(PullRequest { credentials: Some(wrong), ..request.clone() }).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unauthorized);
    let (username, password) = (NAME_AND_PASSWORD.0.to_owned(), NAME_AND_PASSWORD.1.to_owned());
    let right = Credentials { username, password, ..Credentials::default() };
    images.pull(PullRequest { credentials: Some(right), ..request }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_registry_and_missing_manifests_are_told() {
    let Some(registry) = Registry::start(false) else { return };
    let made = small("damaged", Packing::Gzip);
    registry.push("app", "v1", &made);
    let digest = Digest::of(&made.layers[1]);
    let file = registry.blob_file(digest);
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&file, &bytes).unwrap();
    let root = store_dir();
    let images = open(root.path()).await;
    let error = images.pull(PullRequest::new(registry.name("app:v1"))).await.unwrap_err();
    assert!(error.to_string().contains(&format!("expected {digest}, actual {}", Digest::of(&bytes))), "{error}");
    let error = images.pull(PullRequest::new(registry.name("app:v2"))).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::NotFound, "{error}");
    let error = images.pull(PullRequest::new(registry.name("no/such:v1"))).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::NotFound, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_a_registry_is_followed_by_tag_and_digest() {
    let Some(registry) = Registry::start(false) else { return };
    let host = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let (ours, other) = (small("ours", Packing::Gzip), small("other", Packing::Gzip));
    registry.push("multi", "ours", &ours);
    registry.push("multi", "other", &other);
    let list = index(&[(&other, "riscv64"), (&ours, host)]);
    registry.push_manifest("multi", "v1", "application/vnd.oci.image.index.v1+json", &list);
    let root = store_dir();
    let images = open(root.path()).await;
    let image = images.pull(PullRequest::new(registry.name("multi:v1"))).await.unwrap();
    assert_eq!(image.id, Digest::of(&ours.config));
    let pinned = images.pull(PullRequest::new(&image.repo_digests[0])).await.unwrap();
    assert_eq!(pinned.id, image.id);
}

/// `cert.pem` and `key.pem` for a name.
fn certificate(name: &str) -> Option<TempDir> {
    let keys = tempfile::tempdir().unwrap();
    let command = format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test \\
         -addext subjectAltName={name} -addext basicConstraints=critical,CA:FALSE -keyout key.pem -out cert.pem"
    );
    let made = Command::new("sh").args(["-c", &command]).current_dir(keys.path()).stderr(Stdio::null()).status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("skipped: openssl makes no certificate here");
        return None;
    }
    Some(keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_checked_by_the_configured_authority() {
    let Some(keys) = certificate("IP:127.0.0.1") else { return };
    let Some(registry) = Registry::start_with(false, Some(keys.path())) else { return };
    let pull = async |tls: TlsConfig| {
        let root = store_dir();
        let config = HostConfig { tls, plain_http: Some(false), ..HostConfig::default() };
        let mut registries = Registries::default();
        registries.configs.insert(registry.address.to_string(), config);
        let options = ImagesOptions { registries, limits: quick(), ..ImagesOptions::new(root.path()) };
        let images = Images::open(options).await.unwrap();
        images.pull(PullRequest::new(registry.name("none:v1"))).await.unwrap_err()
    };
    let error = pull(TlsConfig::default()).await;
    assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
    // The registry is empty: to be told so is to have come through.
    let trusted = TlsConfig { ca_file: Some(keys.path().join("cert.pem")), ..TlsConfig::default() };
    assert_eq!(pull(trusted).await.class(), ErrorClass::NotFound);
    let careless = TlsConfig { insecure_skip_verify: true, ..TlsConfig::default() };
    assert_eq!(pull(careless).await.class(), ErrorClass::NotFound);
    let missing = TlsConfig { ca_file: Some("/no/such.pem".into()), ..TlsConfig::default() };
    assert!(pull(missing).await.to_string().contains("/no/such.pem"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_behind_a_proxy_is_reached() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let Some(keys) = certificate("DNS:registry.test") else { return };
    let Some(registry) = Registry::start_with(false, Some(keys.path())) else { return };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy =
        Proxy { https: Some(format!("http://u:p@{}", listener.local_addr().unwrap())), except: "other.test".into() };
    let target = registry.address;
    // One tunnel, then it hands out what it was asked.
    let asked = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.unwrap());
        }
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let mut server = tokio::net::TcpStream::connect(target).await.unwrap();
        // The end of the tunnel is not what is tested.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        String::from_utf8(head).unwrap()
    });
    let root = store_dir();
    let mut registries = Registries::default();
    let tls = TlsConfig { ca_file: Some(keys.path().join("cert.pem")), ..TlsConfig::default() };
    registries.configs.insert("registry.test".into(), HostConfig { tls, ..HostConfig::default() });
    let options = ImagesOptions { registries, limits: quick(), proxy, ..ImagesOptions::new(root.path()) };
    let images = Images::open(options).await.unwrap();
    let error = images.pull(PullRequest::new("registry.test/none:v1")).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::NotFound, "{error}");
    drop(images);
    let head = tokio::time::timeout(Duration::from_secs(30), asked).await.unwrap().unwrap();
    assert!(head.starts_with("CONNECT registry.test:443 HTTP/1.1"), "{head}");
    assert!(head.to_lowercase().contains("proxy-authorization: basic dtpw"), "{head}");
}
