//! Images made in memory, and a registry of our own that fails on command.
#![allow(dead_code)] // Each test file uses its part.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use trireme_runtime::images::{Digest, Images, ImagesOptions, PullLimits};

/// An image as the bytes that a registry holds.
#[derive(Clone)]
pub struct Made {
    pub manifest: Vec<u8>,
    pub media_type: String,
    pub config: Vec<u8>,
    pub layers: Vec<Vec<u8>>,
}

/// How layers are packed.
#[derive(Clone, Copy, PartialEq)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// A tar of files: path and content; a path that ends with `/` is a directory.
pub fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_mtime(1);
        header.set_size(content.len() as u64);
        if path.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
        }
        builder.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn pack(tar: &[u8], packing: Packing) -> Vec<u8> {
    match packing {
        Packing::Plain => tar.to_vec(),
        Packing::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(tar).unwrap();
            encoder.finish().unwrap()
        }
        Packing::Zstd => ruzstd::encoding::compress_to_vec(tar, ruzstd::encoding::CompressionLevel::Fastest),
    }
}

/// An image of the given tars.
pub fn image(tars: &[Vec<u8>], packing: Packing, label: &str) -> Made {
    let diff_ids: Vec<Digest> = tars.iter().map(|tar| Digest::of(tar)).collect();
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "created": "2026-01-02T03:04:05Z",
        "config": {
            "User": "1000:2000", "Env": ["PATH=/bin", "A=b"], "Entrypoint": ["/bin/app"], "Cmd": ["run"],
            "WorkingDir": "/srv", "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}}, "StopSignal": "SIGINT",
            "Labels": {"name": label},
        },
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = serde_json::to_vec(&config).unwrap();
    let layers: Vec<Vec<u8>> = tars.iter().map(|tar| pack(tar, packing)).collect();
    let suffix = match packing {
        Packing::Plain => "",
        Packing::Gzip => "+gzip",
        Packing::Zstd => "+zstd",
    };
    let media_type = "application/vnd.oci.image.manifest.v1+json".to_owned();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": layers.iter()
            .map(|layer| descriptor(&format!("application/vnd.oci.image.layer.v1.tar{suffix}"), layer))
            .collect::<Vec<_>>(),
    });
    Made { manifest: serde_json::to_vec(&manifest).unwrap(), media_type, config, layers }
}

/// A small image of two layers.
pub fn small(label: &str, packing: Packing) -> Made {
    let below = tar(&[("bin/", ""), ("bin/app", label), ("etc/gone", "x")]);
    let above = tar(&[("etc/.wh.gone", ""), ("srv/", ""), ("srv/page", &"page ".repeat(20_000))]);
    image(&[below, above], packing, label)
}

pub fn descriptor(media_type: &str, bytes: &[u8]) -> serde_json::Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
}

pub fn index(entries: &[(&Made, &str)]) -> Vec<u8> {
    let manifests: Vec<serde_json::Value> = entries
        .iter()
        .map(|(made, architecture)| {
            let mut entry = descriptor(&made.media_type, &made.manifest);
            entry["platform"] = json!({"os": "linux", "architecture": architecture});
            entry
        })
        .collect();
    let media_type = "application/vnd.oci.image.index.v1+json";
    serde_json::to_vec(&json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests})).unwrap()
}

/// Limits that do not make a test wait.
pub fn quick() -> PullLimits {
    PullLimits {
        pause: std::time::Duration::from_millis(5),
        stall: std::time::Duration::from_millis(700),
        response: std::time::Duration::from_secs(3),
        ..PullLimits::default()
    }
}

/// A directory for a store. Dropped, it leaves no mount behind, even when its test failed half way.
pub struct StoreDir(tempfile::TempDir);

pub fn store_dir() -> StoreDir {
    StoreDir(tempfile::tempdir().unwrap())
}

impl StoreDir {
    pub fn path(&self) -> &std::path::Path {
        self.0.path()
    }
}

impl Drop for StoreDir {
    fn drop(&mut self) {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for path in mounts.lines().filter_map(|line| line.split(' ').nth(4)) {
            if std::path::Path::new(path).starts_with(self.0.path()) {
                let _ = rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH);
            }
        }
    }
}

pub async fn open(root: &std::path::Path) -> Images {
    Images::open(ImagesOptions { limits: quick(), ..ImagesOptions::new(root) }).await.unwrap()
}

pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: unpacking layers needs root");
    }
    root
}

/// A registry that fails on command.
pub struct FakeRegistry {
    pub address: SocketAddr,
    pub state: Arc<Mutex<FakeState>>,
    _server: AbortOnDropHandle<()>,
}

#[derive(Default)]
pub struct FakeState {
    /// `/v2/...` -> media type and bytes.
    pub content: BTreeMap<String, (String, Vec<u8>)>,
    /// The next answers for a path, before its content.
    pub faults: HashMap<String, Vec<Fault>>,
    /// Every request: method, path with query, headers.
    pub log: Vec<(Method, String, HeaderMap)>,
    /// Ask for a Bearer token.
    pub token: Option<String>,
    /// Where blobs are said to be instead.
    pub redirect_blobs: Option<String>,
}

#[derive(Clone)]
pub enum Fault {
    Status(u16, &'static str),
    /// Break the connection after so many bytes of the body.
    CutAfter(usize),
    /// Send so many bytes, then nothing more.
    StallAfter(usize),
}

impl FakeRegistry {
    pub async fn start() -> FakeRegistry {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(FakeState::default()));
        let shared = state.clone();
        let server = AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let Ok((socket, _)) = listener.accept().await else { return };
                let state = shared.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(state.clone(), address, request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
            }
        }));
        FakeRegistry { address, state, _server: server }
    }

    pub fn put(&self, repository: &str, tag: &str, made: &Made) {
        let mut state = self.state.lock();
        for blob in made.layers.iter().chain([&made.config]) {
            let path = format!("/v2/{repository}/blobs/{}", Digest::of(blob));
            state.content.insert(path, ("application/octet-stream".into(), blob.clone()));
        }
        for name in [tag.to_owned(), Digest::of(&made.manifest).to_string()] {
            let path = format!("/v2/{repository}/manifests/{name}");
            state.content.insert(path, (made.media_type.clone(), made.manifest.clone()));
        }
    }

    pub fn put_raw(&self, path: &str, media_type: &str, bytes: &[u8]) {
        self.state.lock().content.insert(path.to_owned(), (media_type.to_owned(), bytes.to_vec()));
    }

    pub fn fault(&self, path: &str, faults: &[Fault]) {
        self.state.lock().faults.insert(path.to_owned(), faults.to_vec());
    }

    pub fn count(&self, part: &str) -> usize {
        self.state.lock().log.iter().filter(|(_, path, _)| path.contains(part)).count()
    }

    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }
}

type Body = http_body_util::combinators::BoxBody<Bytes, std::io::Error>;

fn full(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed()
}

async fn answer(
    state: Arc<Mutex<FakeState>>,
    address: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let posted = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let path = parts.uri.path().to_owned();
    let mut state = state.lock();
    let logged = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    state.log.push((parts.method.clone(), logged, parts.headers.clone()));
    let respond = |status: u16| Response::builder().status(status);
    if path == "/token" {
        let authorized = parts.headers.get("authorization").is_some_and(|value| value == "Basic dTpw");
        let refreshed = posted.windows(13).any(|window| window == b"refresh_token");
        let token = state.token.clone().unwrap_or_default();
        return Ok(match authorized || refreshed {
            true => respond(200).body(full(json!({ "token": token }).to_string().into_bytes())).unwrap(),
            false => respond(401).body(full(b"{}".to_vec())).unwrap(),
        });
    }
    if let Some(token) = &state.token
        && parts.headers.get("authorization").is_none_or(|value| *value != *format!("Bearer {token}"))
    {
        let challenge = format!(r#"Bearer realm="http://{address}/token",service="fake",scope="repository:x:pull""#);
        return Ok(respond(401).header("www-authenticate", challenge).body(full(Vec::new())).unwrap());
    }
    if path.contains("/blobs/")
        && let Some(target) = &state.redirect_blobs
    {
        return Ok(respond(307).header("location", format!("{target}{path}")).body(full(Vec::new())).unwrap());
    }
    let fault = state.faults.get_mut(&path).filter(|faults| !faults.is_empty()).map(|faults| faults.remove(0));
    if let Some(Fault::Status(status, message)) = fault {
        let body = json!({"errors": [{"code": "FAULT", "message": message}]}).to_string();
        return Ok(respond(status).body(full(body.into_bytes())).unwrap());
    }
    let Some((media_type, bytes)) = state.content.get(&path).cloned() else {
        return Ok(respond(404).body(full(Vec::new())).unwrap());
    };
    let start = parts
        .headers
        .get("range")
        .and_then(|value| value.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let builder = respond(if start.is_some() { 206 } else { 200 }).header("content-type", media_type);
    let start = start.unwrap_or(0).min(bytes.len());
    let builder = match start {
        0 => builder.header("content-length", bytes.len()),
        start => builder
            .header("content-length", bytes.len() - start)
            .header("content-range", format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len())),
    };
    let rest = bytes[start..].to_vec();
    let body = match fault {
        Some(Fault::CutAfter(count)) => {
            let piece = Bytes::copy_from_slice(&rest[..count.min(rest.len())]);
            // The server sends what it has when the body has nothing more for a moment.
            let broken = futures::stream::once(async {
                tokio::task::yield_now().await;
                Err(std::io::Error::other("cut"))
            });
            BodyExt::boxed(StreamBody::new(futures::stream::iter([Ok(Frame::data(piece))]).chain(broken)))
        }
        Some(Fault::StallAfter(count)) => {
            let piece = Bytes::copy_from_slice(&rest[..count.min(rest.len())]);
            let frames = futures::stream::iter([Ok(Frame::data(piece))]).chain(futures::stream::pending());
            BodyExt::boxed(StreamBody::new(frames))
        }
        _ => full(rest),
    };
    Ok(builder.body(body).unwrap())
}
