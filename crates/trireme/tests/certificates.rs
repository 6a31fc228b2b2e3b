//! Certificates end, and nobody notices.

#![allow(clippy::unwrap_used)] // a test fails loudly

mod server;

use k8s_openapi::api::core::v1::Namespace;
use rustls::pki_types::ServerName;
use server::{Server, client, free_port, ready};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio_rustls::TlsConnector;
use trireme_client::tls_trusting;
use trireme_pki::{Identity, certificates};

/// How long the certificates of the test live, in seconds.
const LIFE: &str = "8";

fn kubeconfig(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("data/kubeconfig")).unwrap()
}

/// When the certificate ends that the server shows to a new connection. Its authority has signed it, and it is valid.
async fn shown_ends(dir: &Path, port: u16) -> SystemTime {
    let authority = std::fs::read_to_string(dir.join("data/pki/server-ca.crt")).unwrap();
    let tls = tls_trusting(certificates(&authority, "it").unwrap()).unwrap().with_no_client_auth();
    let tcp = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(tls)).connect(name, tcp).await.expect("a valid certificate");
    let leaf = trireme_pki::to_pem(&stream.get_ref().1.peer_certificates().unwrap()[0]);
    Identity { certificate: leaf, key: String::new() }.expires().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_before_they_end_and_after_a_stop_that_was_longer() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    let port = free_port();
    let mut server = Server::start(dir, port, &["--certificate-life", LIFE]);
    ready(dir).await;
    let (first, first_end) = (kubeconfig(dir), shown_ends(dir, port).await);

    // The same process shows others, and has written them for the administrator.
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    while shown_ends(dir, port).await == first_end || kubeconfig(dir) == first {
        tick.tick().await;
        assert!(Instant::now() < deadline, "never renewed");
    }
    assert!(SystemTime::now() < first_end, "renewed too late");
    let namespaces = client(&kubeconfig(dir)).unwrap().all::<Namespace>();
    namespaces.get("default").await.unwrap();

    // The first administrator's certificate has ended; the second's is still good.
    while SystemTime::now() < first_end + Duration::from_secs(1) {
        tick.tick().await;
    }
    client(&first).unwrap().all::<Namespace>().get("default").await.unwrap_err();
    client(&kubeconfig(dir)).unwrap().all::<Namespace>().get("default").await.unwrap();

    // Stopped for longer than they live.
    let last_end = shown_ends(dir, port).await;
    server.kill();
    while SystemTime::now() < last_end + Duration::from_secs(1) {
        tick.tick().await;
    }
    let _server = Server::start(dir, port, &["--certificate-life", LIFE]);
    ready(dir).await;
    assert!(shown_ends(dir, port).await > last_end);
}
