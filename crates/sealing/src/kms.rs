//! A key service (KMS v2, KEP-3299): keys that never leave it seal the seeds from which the keys of values are made.

use crate::ciphers::{Cipher, CipherError, random};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use parking_lot::{Mutex, RwLock};
use prost::Message;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

#[derive(Clone, PartialEq, Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(string, tag = "2")]
    healthz: String,
    #[prost(string, tag = "3")]
    key_id: String,
}

#[derive(Clone, PartialEq, Message)]
struct DecryptRequest {
    #[prost(bytes = "vec", tag = "1")]
    ciphertext: Vec<u8>,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    key_id: String,
    #[prost(btree_map = "string, bytes", tag = "4")]
    annotations: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct DecryptResponse {
    #[prost(bytes = "vec", tag = "1")]
    plaintext: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct EncryptRequest {
    #[prost(bytes = "vec", tag = "1")]
    plaintext: Vec<u8>,
    #[prost(string, tag = "2")]
    uid: String,
}

#[derive(Clone, PartialEq, Message)]
struct EncryptResponse {
    #[prost(bytes = "vec", tag = "1")]
    ciphertext: Vec<u8>,
    #[prost(string, tag = "2")]
    key_id: String,
    #[prost(btree_map = "string, bytes", tag = "3")]
    annotations: BTreeMap<String, Vec<u8>>,
}

/// A value as it is stored (upstream's `EncryptedObject`).
#[derive(Clone, PartialEq, Message)]
struct Stored {
    #[prost(bytes = "vec", tag = "1")]
    data: Vec<u8>,
    #[prost(string, tag = "2")]
    key_id: String,
    #[prost(bytes = "vec", tag = "3")]
    source: Vec<u8>,
    #[prost(btree_map = "string, bytes", tag = "4")]
    annotations: BTreeMap<String, Vec<u8>>,
    /// 1: a seed, from which each value's key is derived (HKDF-SHA256).
    #[prost(int32, tag = "5")]
    source_type: i32,
}

const SEED: i32 = 1;
/// Bytes by which each value's key differs; they stand in front of it.
const INFO: usize = 32;
/// How often the service is asked whether it has a new key.
const REFRESH: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(3);
/// Seeds that are remembered.
const MOST_SEEDS: usize = 1024;

/// A seed, and how it is stored.
struct Source {
    seed: [u8; 32],
    sealed: EncryptResponse,
}

/// A key service. Calls to it are made on a thread of its own, so that the store can wait for them.
pub(crate) struct Kms {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    current: RwLock<Option<Arc<Source>>>,
    seeds: Mutex<HashMap<Vec<u8>, [u8; 32]>>,
    calls: tokio::sync::mpsc::Sender<Call>,
    timeout: Duration,
}

/// A seed to be opened.
type Call = (DecryptRequest, std::sync::mpsc::SyncSender<Result<Vec<u8>, String>>);

impl Kms {
    /// Asks a service at `unix:///PATH` for its first key.
    pub(crate) fn start(name: &str, endpoint: &str, timeout: &str) -> Result<Self, String> {
        let path =
            endpoint.strip_prefix("unix://").filter(|p| !p.is_empty()).ok_or("endpoint: must be unix:///PATH")?;
        let timeout = match timeout {
            "" => TIMEOUT,
            text => {
                let nanos = trireme_schema::time::parse_duration(text).filter(|n| *n > 0);
                Duration::from_nanos(nanos.ok_or("timeout: must be a positive duration")?.unsigned_abs())
            }
        };
        let path = PathBuf::from(path);
        let (calls, taken) = tokio::sync::mpsc::channel(64);
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            current: RwLock::new(None),
            seeds: Mutex::default(),
            calls,
            timeout,
        });
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let weak = Arc::downgrade(&shared);
        let thread = std::thread::Builder::new().name("kms".into());
        let run = move || {
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(serve(&path, timeout, weak, taken, ready)),
                Err(error) => drop(ready.send(Err(error.to_string()))),
            };
        };
        thread.spawn(run).map_err(|e| e.to_string())?;
        is_ready.recv().map_err(|e| e.to_string())??;
        Ok(Self { shared })
    }

    pub(crate) fn seal(&self, place: &[u8], plain: &[u8]) -> Result<Vec<u8>, CipherError> {
        let source = self.shared.current.read().clone().ok_or(CipherError("the key service has given no key yet"))?;
        let info: [u8; INFO] = random()?;
        let sealed = key(&source.seed, &info)?.seal(place, plain)?;
        let stored = Stored {
            data: [&info[..], &sealed].concat(),
            key_id: source.sealed.key_id.clone(),
            source: source.sealed.ciphertext.clone(),
            annotations: source.sealed.annotations.clone(),
            source_type: SEED,
        };
        Ok(stored.encode_to_vec())
    }

    pub(crate) fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, String> {
        let stored = Stored::decode(sealed).map_err(|e| e.to_string())?;
        if stored.source_type != SEED {
            return Err("the value's key is of a sort that is not supported".into());
        }
        let seed = self.shared.seed(&stored)?;
        let (info, data) = stored.data.split_at_checked(INFO).ok_or("the value is cut short")?;
        let opened = key(&seed, info).and_then(|key| key.open(place, data));
        opened.map_err(|e| e.to_string())
    }
}

/// The key of a value.
fn key(seed: &[u8; 32], info: &[u8]) -> Result<Cipher, CipherError> {
    struct Length;
    impl KeyType for Length {
        fn len(&self) -> usize {
            32
        }
    }
    const FAILED: CipherError = CipherError("the value's key cannot be derived");
    let mut bytes = [0; 32];
    let derived = Salt::new(HKDF_SHA256, &[]).extract(seed);
    derived.expand(&[info], Length).and_then(|okm| okm.fill(&mut bytes)).map_err(|_| FAILED)?;
    Cipher::gcm(&bytes).ok_or(FAILED)
}

impl Shared {
    /// The seed of a stored value, from memory or from the service.
    fn seed(&self, stored: &Stored) -> Result<[u8; 32], String> {
        if let Some(seed) = self.seeds.lock().get(&stored.source) {
            return Ok(*seed);
        }
        let request = DecryptRequest {
            ciphertext: stored.source.clone(),
            uid: format!("{}-open", self.name),
            key_id: stored.key_id.clone(),
            annotations: stored.annotations.clone(),
        };
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        self.calls.try_send((request, answer)).map_err(|_| "the key service is not being asked any longer")?;
        let seed = answered.recv_timeout(self.timeout * 2).map_err(|_| "the key service does not answer")??;
        let seed: [u8; 32] = seed.try_into().map_err(|_| "the key service gave a seed of the wrong length")?;
        self.remember(stored.source.clone(), seed);
        Ok(seed)
    }

    fn remember(&self, source: Vec<u8>, seed: [u8; 32]) {
        let mut seeds = self.seeds.lock();
        if seeds.len() >= MOST_SEEDS {
            seeds.clear();
        }
        seeds.insert(source, seed);
    }
}

async fn serve(
    path: &Path,
    timeout: Duration,
    shared: Weak<Shared>,
    mut calls: tokio::sync::mpsc::Receiver<Call>,
    ready: std::sync::mpsc::SyncSender<Result<(), String>>,
) {
    let mut service = Service::at(path, timeout);
    let first = match shared.upgrade() {
        Some(shared) => renew(&mut service, &shared).await,
        None => return,
    };
    let failed = first.is_err();
    let _ = ready.send(first);
    if failed {
        return;
    }
    let mut refresh = tokio::time::interval(REFRESH);
    refresh.reset();
    loop {
        tokio::select! {
            call = calls.recv() => {
                let Some((request, answer)) = call else { return };
                let opened: Result<DecryptResponse, String> = service.call("Decrypt", request).await;
                let _ = answer.send(opened.map(|o| o.plaintext));
            }
            _ = refresh.tick() => {
                let Some(shared) = shared.upgrade() else { return };
                if let Err(why) = renew(&mut service, &shared).await {
                    tracing::warn!(kms = shared.name, why, "the key service is not well; the present key goes on");
                }
            }
        }
    }
}

/// Takes up the service's key, when it is another one.
async fn renew(service: &mut Service, shared: &Shared) -> Result<(), String> {
    let status: StatusResponse = service.call("Status", StatusRequest {}).await?;
    if status.healthz != "ok" {
        return Err(format!("the key service says {:?}", status.healthz));
    }
    if shared.current.read().as_ref().is_some_and(|s| s.sealed.key_id == status.key_id) {
        return Ok(());
    }
    let seed: [u8; 32] = random().map_err(|e| e.to_string())?;
    let request = EncryptRequest { plaintext: seed.to_vec(), uid: format!("{}-seal", shared.name) };
    let sealed: EncryptResponse = service.call("Encrypt", request).await?;
    if sealed.key_id.is_empty() || sealed.ciphertext.is_empty() {
        return Err("the key service gave no ciphertext or no key id".into());
    }
    shared.remember(sealed.ciphertext.clone(), seed);
    *shared.current.write() = Some(Arc::new(Source { seed, sealed }));
    Ok(())
}

/// The service's procedures.
struct Service {
    channel: Channel,
    timeout: Duration,
}

impl Service {
    /// A service at a socket; it is connected to when it is called.
    fn at(path: &Path, timeout: Duration) -> Self {
        let path = path.to_owned();
        let connect = tower::service_fn(move |_: http::Uri| {
            let path = path.clone();
            async move { tokio::net::UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
        });
        // The address means nothing: the connector knows the socket.
        let channel = Endpoint::from_static("http://kms").connect_with_connector_lazy(connect);
        Self { channel, timeout }
    }

    async fn call<I: Message + Clone + 'static, O: Message + Default + 'static>(
        &mut self,
        procedure: &'static str,
        request: I,
    ) -> Result<O, String> {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        let path = http::uri::PathAndQuery::try_from(format!("/v2.KeyManagementService/{procedure}"));
        let path = path.map_err(|e| e.to_string())?;
        let work = async {
            client.ready().await.map_err(|e| e.to_string())?;
            let codec = tonic_prost::ProstCodec::<I, O>::default();
            let answer = client.unary(tonic::Request::new(request), path, codec).await;
            answer.map(tonic::Response::into_inner).map_err(|status| status.to_string())
        };
        match tokio::time::timeout(self.timeout, work).await {
            Ok(answer) => answer.map_err(|why| format!("{procedure}: {why}")),
            Err(_) => Err(format!("{procedure}: the key service does not answer within {:?}", self.timeout)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_opened_with_its_seed_alone() {
        let (info, seed) = ([3; INFO], [1; 32]);
        let sealed = key(&seed, &info).unwrap().seal(b"a", b"x").unwrap();
        assert_eq!(key(&seed, &info).unwrap().open(b"a", &sealed).unwrap(), b"x");
        assert!(key(&[2; 32], &info).unwrap().open(b"a", &sealed).is_err());
        assert!(key(&seed, &[4; INFO]).unwrap().open(b"a", &sealed).is_err());
    }

    #[test]
    fn a_service_that_is_not_there_is_told() {
        let why = Kms::start("k", "unix:///nonexistent/kms.sock", "100ms").map(drop).unwrap_err();
        assert!(why.starts_with("Status: "), "{why}");
        assert!(Kms::start("k", "tcp://a", "").is_err());
        assert!(Kms::start("k", "unix:///a", "x").is_err());
    }

    /// A key service that turns bytes round; each call of `Status` tells the key's number.
    fn fake(path: PathBuf) {
        use http_body_util::{BodyExt, StreamBody};
        use hyper::body::Frame;
        use hyper_util::rt::{TokioExecutor, TokioIo};
        let turned = |bytes: &[u8]| bytes.iter().rev().copied().collect::<Vec<u8>>();
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let answer = move |procedure: &str, message: &[u8]| match procedure {
            "/v2.KeyManagementService/Status" => {
                StatusResponse { version: "v2".into(), healthz: "ok".into(), key_id: "k1".into() }.encode_to_vec()
            }
            "/v2.KeyManagementService/Encrypt" => {
                let plain = EncryptRequest::decode(message).unwrap().plaintext;
                let ciphertext = turned(&plain);
                EncryptResponse { ciphertext, key_id: "k1".into(), annotations: BTreeMap::new() }.encode_to_vec()
            }
            _ => {
                let sealed = DecryptRequest::decode(message).unwrap();
                assert_eq!(sealed.key_id, "k1");
                DecryptResponse { plaintext: turned(&sealed.ciphertext) }.encode_to_vec()
            }
        };
        let serve = async move {
            let listener = tokio::net::UnixListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let service =
                    hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| async move {
                        let procedure = request.uri().path().to_owned();
                        let body = request.into_body().collect().await?.to_bytes();
                        let message = answer(&procedure, body.get(5..).unwrap());
                        let mut frame = vec![0];
                        frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
                        frame.extend(message);
                        let mut trailers = http::HeaderMap::new();
                        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                        let frames = [
                            Ok::<_, hyper::Error>(Frame::data(bytes::Bytes::from(frame))),
                            Ok(Frame::trailers(trailers)),
                        ];
                        let response = http::Response::builder().header("content-type", "application/grpc");
                        Ok::<_, hyper::Error>(response.body(StreamBody::new(tokio_stream::iter(frames))).unwrap())
                    });
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        };
        std::thread::spawn(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(serve)
        });
    }

    #[test]
    fn a_service_gives_seeds_and_opens_them_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kms.sock");
        fake(path.clone());
        let endpoint = format!("unix://{}", path.display());
        let kms = Kms::start("k", &endpoint, "5s").unwrap();
        let sealed = kms.seal(b"secrets/a/b", b"hush").unwrap();
        assert_eq!(kms.open(b"secrets/a/b", &sealed).unwrap(), b"hush");
        // Another process does not remember the seed: the service opens it.
        let later = Kms::start("k", &endpoint, "5s").unwrap();
        assert_eq!(later.open(b"secrets/a/b", &sealed).unwrap(), b"hush");
        assert!(later.open(b"secrets/a/c", &sealed).is_err(), "a value stays in its place");
    }
}
