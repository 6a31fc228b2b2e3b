//! `kube-system/extension-apiserver-authentication`: what extension servers need to know to believe this one and its
//! clients. It is written at the start and again whenever it is changed or deleted (upstream's cluster authentication
//! trust controller).

use super::write;
use crate::authn::RequestHeaders;
use crate::server::ApiServer;
use base64::Engine as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use trireme_schema::{Map, Value, json};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";
const MAPS: write::Resource = ("", "configmaps");
/// A write that was refused is made again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Writes the map, and keeps it until the server stops.
pub(super) async fn start(server: &Arc<ApiServer>) {
    let maps = server.store.topic("configmaps");
    let seen = maps.snapshot().revision;
    let unfinished = !ensure(server).await;
    tokio::spawn(follow(Arc::downgrade(server), server.stopping.clone(), maps, seen, unfinished));
}

async fn follow(
    server: Weak<ApiServer>,
    stopping: CancellationToken,
    maps: Arc<trireme_store::Topic>,
    mut seen: i64,
    mut unfinished: bool,
) {
    let key = format!("configmaps/{NAMESPACE}/{NAME}");
    loop {
        let Ok(mut events) = maps.watch(&key, seen).or_else(|gone| maps.watch(&key, gone.oldest)) else { return };
        tokio::select! {
            () = stopping.cancelled() => return,
            _ = events.next() => {}
            () = tokio::time::sleep(AGAIN), if unfinished => {}
        }
        let Some(server) = server.upgrade() else { return };
        seen = maps.snapshot().revision;
        unfinished = !ensure(&server).await;
    }
}

/// Brings the map up to date; false when that failed.
async fn ensure(server: &ApiServer) -> bool {
    let now = jiff::Timestamp::now().as_second();
    let (client_ca, headers) = (&server.config.client_ca, server.config.authentication.request_headers.as_ref());
    let old = server.read("", "configmaps", NAMESPACE, NAME);
    let wanted = |old: Option<&Value>| {
        let data = old.and_then(|old| old.get("data")?.as_object().cloned()).unwrap_or_default();
        data_of(client_ca, headers, &data, now)
    };
    let written = match &old {
        None => {
            let mut object = Value::object();
            object.set_at(&["metadata", "name"], NAME);
            object.set_at(&["data"], wanted(None));
            write::create(server, MAPS, NAMESPACE, object).await
        }
        Some(map) if map.get("data") == Some(&Value::Object(wanted(Some(map)))) => Ok(()),
        Some(_) => {
            let change = |old: &Value| {
                let mut new = old.clone();
                new.set_at(&["data"], wanted(Some(old)));
                Some(new)
            };
            write::update(server, MAPS, (NAMESPACE, NAME, ""), &change).await
        }
    };
    written.map_err(|status| tracing::warn!(%status, "cannot write {NAMESPACE}/{NAME}")).is_ok()
}

/// The map's data: what this server believes, and besides it what others wrote, without certificates that have ended.
fn data_of(client_ca: &str, headers: Option<&RequestHeaders>, old: &Map, now: i64) -> Map {
    let mut data = Map::new();
    let mut authorities = |key: &str, own: &str| {
        let all = bundle(&[own, old.str(key)], now);
        if !all.is_empty() {
            data.insert(key, all);
        }
    };
    authorities("client-ca-file", client_ca);
    let Some(headers) = headers else { return data };
    authorities("requestheader-client-ca-file", &headers.client_ca);
    for (key, own) in [
        ("requestheader-allowed-names", &headers.allowed_names),
        ("requestheader-username-headers", &headers.username_headers),
        ("requestheader-uid-headers", &headers.uid_headers),
        ("requestheader-group-headers", &headers.group_headers),
        ("requestheader-extra-headers-prefix", &headers.extra_headers_prefix),
    ] {
        let mut names = own.clone();
        let others = json::parse(old.str(key).as_bytes()).unwrap_or_default();
        let others = others.as_array().unwrap_or_default().iter().filter_map(Value::as_str).map(str::to_owned);
        // No names at all allow any: others' names take nothing away from that.
        if key != "requestheader-allowed-names" || !own.is_empty() {
            names.extend(others);
        }
        let mut known = BTreeSet::new();
        names.retain(|name| known.insert(name.clone()));
        if key != "requestheader-uid-headers" || !names.is_empty() {
            data.insert(key, String::from_utf8_lossy(&json::to_vec(&names.into())).into_owned());
        }
    }
    data
}

/// All certificates of several bundles, each once, as long as they hold.
fn bundle(bundles: &[&str], now: i64) -> String {
    let (mut out, mut known) = (String::new(), BTreeSet::new());
    for pem in bundles {
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()).flatten() {
            let ended = x509_parser::parse_x509_certificate(&certificate)
                .is_ok_and(|(_, c)| c.validity().not_after.timestamp() < now);
            if !ended && known.insert(certificate.to_vec()) {
                out.push_str(&pem_of(&certificate));
            }
        }
    }
    out
}

fn pem_of(certificate: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> String {
        rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap().cert.pem().replace("\r\n", "\n")
    }

    #[test]
    fn what_others_wrote_stays_and_what_is_ours_is_there_once() {
        let (own, proxies, other) = (authority(), authority(), authority());
        let headers = RequestHeaders::usual(&proxies, &["front-proxy-client"]);
        let now = jiff::Timestamp::now().as_second();
        let first = data_of(&own, Some(&headers), &Map::new(), now);
        assert_eq!(first.str("client-ca-file"), own);
        assert_eq!(first.str("requestheader-allowed-names"), r#"["front-proxy-client"]"#);
        assert_eq!(first.str("requestheader-extra-headers-prefix"), r#"["X-Remote-Extra-"]"#);
        let mut changed = first.clone();
        changed.insert("client-ca-file", format!("{other}{own}"));
        changed.insert("requestheader-allowed-names", r#"["mine"]"#);
        changed.remove("requestheader-group-headers");
        let again = data_of(&own, Some(&headers), &changed, now);
        assert_eq!(again.str("client-ca-file"), format!("{own}{other}"));
        assert_eq!(again.str("requestheader-allowed-names"), r#"["front-proxy-client","mine"]"#);
        assert_eq!(again.str("requestheader-group-headers"), r#"["X-Remote-Group"]"#);
        assert_eq!(data_of(&own, Some(&headers), &again, now), again, "it settles");
        assert_eq!(data_of(&own, None, &Map::new(), now).len(), 1);
        let ended = data_of(&own, None, &Map::new(), i64::MAX);
        assert!(ended.is_empty(), "{ended:?}");
    }
}
