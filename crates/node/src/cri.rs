//! The container runtime, reached over CRI.

use hyper_util::rt::TokioIo;
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use trireme_cri::image_service_client::ImageServiceClient;
use trireme_cri::runtime_service_client::RuntimeServiceClient;

/// Clients of both services. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cri {
    /// Sandboxes and containers.
    pub runtime: RuntimeServiceClient<Channel>,
    /// Images.
    pub images: ImageServiceClient<Channel>,
}

/// Messages may be as large as upstream allows.
const LARGEST: usize = 16 << 20;

impl Cri {
    /// A runtime behind a unix socket.
    ///
    /// # Errors
    /// When nobody answers there.
    pub async fn connect(socket: &Path) -> Result<Self, tonic::transport::Error> {
        let path: PathBuf = socket.strip_prefix("unix://").unwrap_or(socket).to_owned();
        let connector = tower::service_fn(move |_: http::Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://cri").connect_with_connector(connector).await?;
        Ok(Self {
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(LARGEST),
            images: ImageServiceClient::new(channel).max_decoding_message_size(LARGEST),
        })
    }
}

/// What pods and containers are labelled with at the runtime.
pub(crate) mod label {
    /// The pod's name.
    pub(crate) const POD: &str = "io.kubernetes.pod.name";
    /// The pod's namespace.
    pub(crate) const NAMESPACE: &str = "io.kubernetes.pod.namespace";
    /// The pod's UID.
    pub(crate) const UID: &str = "io.kubernetes.pod.uid";
    /// The container's name.
    pub(crate) const CONTAINER: &str = "io.kubernetes.container.name";
}
