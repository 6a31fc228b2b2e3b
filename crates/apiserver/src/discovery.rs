//! Discovery: which groups, versions and resources there are; OpenAPI: what their objects look like.

use crate::aggregation::Ties;
use crate::answer::{self, Body};
use crate::catalogue::Served;
use crate::custom;
use crate::media::Wanted;
use crate::openapi;
use crate::request::RequestInfo;
use crate::server::{ApiServer, header_text};
use http::{HeaderMap, HeaderValue, Response, header};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::sync::Arc;
use trireme_schema::{GroupVersion, Map, Status, Value, json};

/// The protobuf form of OpenAPI v2, and how older clients ask for it.
const GNOSTIC: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const GNOSTIC_OLD: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// An OpenAPI document as it is kept: packed, since all of them together are ten megabytes of text.
pub struct Packed {
    hash: String,
    gzip: bytes::Bytes,
}

impl Packed {
    /// Packs a document.
    pub fn new(document: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, document);
        let hash = digest.as_ref().iter().map(|b| format!("{b:02X}")).collect();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        // Neither step can fail: a vector takes all.
        let gzip = packed.write_all(document).and_then(|()| packed.finish()).unwrap_or_default();
        Self { hash, gzip: gzip.into() }
    }

    /// What tells it from others.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The document.
    pub fn unpack(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let unpacked = flate2::read::GzDecoder::new(&*self.gzip).read_to_end(&mut out);
        debug_assert!(unpacked.is_ok(), "we packed it");
        out
    }

    /// The answer: as it is kept for those who take it so; 304 for those who have it.
    fn answer(&self, content_type: &'static str, headers: &HeaderMap) -> Response<Body> {
        let tag = format!("\"{}\"", self.hash);
        let zipped = header_text(headers, header::ACCEPT_ENCODING).contains("gzip");
        let mut response = if header_text(headers, header::IF_NONE_MATCH) == tag {
            answer::typed(304, content_type, answer::whole(""))
        } else if zipped {
            let mut response = answer::typed(200, content_type, answer::whole(self.gzip.clone()));
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response
        } else {
            answer::typed(200, content_type, answer::whole(self.unpack()))
        };
        if let Ok(value) = HeaderValue::from_str(&tag) {
            response.headers_mut().insert(header::ETAG, value);
        }
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
        response
    }
}

/// OpenAPI documents, made at first use and kept until what they tell of changes.
#[derive(Default)]
pub struct Documents {
    openapi: parking_lot::Mutex<BTreeMap<String, Arc<Packed>>>,
}

impl Documents {
    /// Lets go of the documents that tell of these groups, and of those that tell of all.
    pub fn forget(&self, groups: &BTreeSet<String>) {
        self.openapi.lock().retain(|name, _| {
            let group = name.strip_prefix("apis/").and_then(|rest| rest.split('/').next());
            !matches!(name.as_str(), "v2" | "v2.pb") && group.is_none_or(|group| !groups.contains(group))
        });
    }
}

fn map<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Object(fields.into_iter().collect())
}

fn version_entry(group: &str, version: &str) -> Value {
    map([("groupVersion", format!("{group}/{version}").into()), ("version", version.into())])
}

fn group_value(name: &str, versions: &[String]) -> Value {
    let preferred = versions.first().map(String::as_str).unwrap_or_default();
    map([
        ("name", name.into()),
        ("versions", Value::Array(versions.iter().map(|v| version_entry(name, v)).collect())),
        ("preferredVersion", version_entry(name, preferred)),
    ])
}

/// Kinds that upstream stores in an older version than we do, which only the hash shows.
const STORED_AS_V1BETA1: [&str; 3] =
    ["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "CustomResourceDefinition"];

/// The hash by which clients see where objects of several resources are stored together.
fn storage_hash(served: &Served) -> String {
    use base64::Engine as _;
    let gv = &served.resource.gv;
    let [group, version, _] = match served.conversion {
        Some(conversion) => conversion.stored(),
        None if STORED_AS_V1BETA1.contains(&served.kind()) => [&gv.group, "v1beta1", ""],
        None => [&gv.group, &gv.version, ""],
    };
    let text = format!("{group}/{version}/{}", served.kind());
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(&digest.as_ref()[..8])
}

fn resource_list(server: &ApiServer, gv: &GroupVersion) -> Value {
    let mut out = Vec::new();
    for served in server.catalogue.now().all().filter(|s| s.resource.gv == *gv) {
        let r = &served.resource;
        let mut entry = Map::new();
        entry.insert("name", r.plural.as_str());
        entry.insert("singularName", r.singular.as_str());
        entry.insert("namespaced", r.namespaced);
        entry.insert("kind", r.kind.as_str());
        entry.insert("verbs", r.verbs.clone());
        if !r.short_names.is_empty() {
            entry.insert("shortNames", r.short_names.clone());
        }
        if !r.categories.is_empty() {
            entry.insert("categories", r.categories.clone());
        }
        // Only what is stored has it.
        if ["list", "create"].iter().all(|stored| r.verbs.iter().any(|v| v == stored)) {
            entry.insert("storageVersionHash", storage_hash(served));
        }
        out.push(Value::Object(entry));
        for s in &r.subresources {
            let mut entry = Map::new();
            entry.insert("name", format!("{}/{}", r.plural, s.name));
            entry.insert("singularName", "");
            entry.insert("namespaced", r.namespaced);
            if let Some(gv) = &s.gv {
                entry.insert("group", gv.group.as_str());
                entry.insert("version", gv.version.as_str());
            }
            entry.insert("kind", s.kind.as_str());
            entry.insert("verbs", s.verbs.clone());
            out.push(Value::Object(entry));
        }
    }
    let mut list = Map::from_iter([("kind", "APIResourceList".to_owned()), ("groupVersion", gv.to_string())]);
    // The core group's list is of a time when lists had no version.
    if !gv.group.is_empty() {
        list.insert("apiVersion", "v1");
    }
    list.insert("resources", Value::Array(out));
    Value::Object(list)
}

/// The aggregated document (`apidiscovery.k8s.io/v2`).
fn aggregated(server: &ApiServer, core: bool) -> Value {
    let shelf = server.catalogue.now();
    let groups = match core {
        true => vec![(String::new(), vec!["v1".to_owned()])],
        false => server.aggregation.groups(&shelf, Ties::Group),
    };
    let items = groups.iter().map(|(name, versions)| {
        let versions = versions.iter().map(|version| {
            let gv = GroupVersion { group: name.clone(), version: version.clone() };
            let (resources, current) = match server.aggregation.of(&gv) {
                Some(remote) => {
                    let known = remote.known();
                    // What it told once may be wrong by now: it is kept, and not told.
                    (if known.current { known.resources.clone() } else { Vec::new() }, known.current)
                }
                None => {
                    let own = shelf.all().filter(|s| s.resource.gv == gv);
                    (own.map(|s| aggregated_resource(s)).collect(), true)
                }
            };
            let mut entry = Map::from_iter([("version", version.as_str())]);
            if !resources.is_empty() {
                entry.insert("resources", Value::Array(resources));
            }
            entry.insert("freshness", if current { "Current" } else { "Stale" });
            Value::Object(entry)
        });
        let mut metadata = Map::new();
        if !name.is_empty() {
            metadata.insert("name", name.as_str());
        }
        map([("metadata", metadata.into()), ("versions", Value::Array(versions.collect()))])
    });
    map([
        ("kind", "APIGroupDiscoveryList".into()),
        ("apiVersion", "apidiscovery.k8s.io/v2".into()),
        ("metadata", Value::object()),
        ("items", Value::Array(items.collect())),
    ])
}

/// The kind of an answer: its group and version are told when they are others than those of the list.
fn kind_value(gv: Option<&GroupVersion>, kind: &str) -> Value {
    let (group, version) = gv.map_or(("", ""), |gv| (&gv.group, &gv.version));
    map([("group", group.into()), ("version", version.into()), ("kind", kind.into())])
}

fn aggregated_resource(served: &Served) -> Value {
    let r = &served.resource;
    let scope = if r.namespaced { "Namespaced" } else { "Cluster" };
    let mut entry = Map::new();
    entry.insert("resource", r.plural.as_str());
    entry.insert("responseKind", kind_value(None, &r.kind));
    entry.insert("scope", scope);
    entry.insert("singularResource", r.singular.as_str());
    entry.insert("verbs", r.verbs.clone());
    if !r.short_names.is_empty() {
        entry.insert("shortNames", r.short_names.clone());
    }
    if !r.categories.is_empty() {
        entry.insert("categories", r.categories.clone());
    }
    if !r.subresources.is_empty() {
        let subresources = r.subresources.iter().map(|s| {
            map([
                ("subresource", s.name.as_str().into()),
                ("responseKind", kind_value(s.gv.as_ref(), &s.kind)),
                ("verbs", s.verbs.clone().into()),
            ])
        });
        entry.insert("subresources", Value::Array(subresources.collect()));
    }
    Value::Object(entry)
}

/// Answers paths that are no resources: discovery, OpenAPI, token keys.
///
/// # Errors
/// 404.
pub fn answer(
    server: &Arc<ApiServer>,
    info: &RequestInfo,
    headers: &HeaderMap,
    wanted: Wanted,
) -> Result<Response<Body>, Status> {
    let parts: Vec<&str> = info.path.split('/').filter(|p| !p.is_empty()).collect();
    if !matches!(info.verb.as_str(), "get" | "head") {
        return Err(Status::no_such_path());
    }
    let accept = header_text(headers, header::ACCEPT);
    let wants_aggregated = accept.contains("as=APIGroupDiscoveryList") && accept.contains("v=v2");
    let issuer = &server.authenticator.issuer;
    let document = match parts[..] {
        ["api" | "apis"] if wants_aggregated => {
            let bytes = json::to_vec(&aggregated(server, parts == ["api"]));
            return Ok(with_tag(
                bytes.into(),
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
                headers,
            ));
        }
        ["api"] => {
            let address = format!("{}:{}", server.config.advertise_address, server.config.advertise_port);
            let cidr = map([("clientCIDR", "0.0.0.0/0".into()), ("serverAddress", address.into())]);
            map([
                ("kind", "APIVersions".into()),
                ("versions", vec!["v1"].into()),
                ("serverAddressByClientCIDRs", Value::Array(vec![cidr])),
            ])
        }
        ["api", "v1"] => resource_list(server, &GroupVersion::parse("v1")),
        ["apis"] => {
            let shelf = server.catalogue.now();
            let groups = server.aggregation.groups(&shelf, Ties::Service);
            let groups = groups.iter().map(|(name, versions)| group_value(name, versions)).collect();
            map([("kind", "APIGroupList".into()), ("apiVersion", "v1".into()), ("groups", Value::Array(groups))])
        }
        ["apis", group] => {
            let shelf = server.catalogue.now();
            let groups = server.aggregation.groups(&shelf, Ties::Service);
            let (name, versions) = groups.iter().find(|(name, _)| name == group).ok_or_else(Status::no_such_path)?;
            let mut value = group_value(name, versions);
            value.set_at(&["kind"], "APIGroup");
            value.set_at(&["apiVersion"], "v1");
            value
        }
        ["apis", group, version] => {
            let gv = GroupVersion { group: group.to_owned(), version: version.to_owned() };
            if !server.catalogue.now().has_version(&gv) {
                return Err(Status::no_such_path());
            }
            resource_list(server, &gv)
        }
        ["openapi", "v3"] => openapi_index(server),
        ["openapi", "v3", ref rest @ ..] => {
            let found = openapi_document(server, &rest.join("/")).ok_or_else(Status::no_such_path)?;
            return Ok(found.answer("application/json", headers));
        }
        ["openapi", "v2"] => {
            if !accepts(&accept, &["application/json", GNOSTIC, GNOSTIC_OLD]) {
                let mut nothing = Response::new(answer::whole(""));
                *nothing.status_mut() = http::StatusCode::NOT_ACCEPTABLE;
                return Ok(nothing);
            }
            let (name, content_type) = if accept.contains(GNOSTIC) || accept.contains(GNOSTIC_OLD) {
                ("v2.pb", GNOSTIC)
            } else {
                ("v2", "application/json")
            };
            let found = openapi_document(server, name).ok_or_else(Status::no_such_path)?;
            return Ok(found.answer(content_type, headers));
        }
        [".well-known", "openid-configuration"] => {
            let jwks =
                format!("https://{}:{}/openid/v1/jwks", server.config.advertise_address, server.config.advertise_port);
            issuer.discovery(&jwks)
        }
        ["openid", "v1", "jwks"] => {
            if !accepts(&accept, &["application/jwk-set+json"]) {
                return Err(Status::not_acceptable("application/jwk-set+json"));
            }
            let bytes = json::to_vec(&issuer.key_set());
            return Ok(answer::typed(200, "application/jwk-set+json", answer::whole(bytes)));
        }
        [] => map([("paths", root_paths(server).into())]),
        _ => return Err(Status::no_such_path()),
    };
    Ok(answer::object(200, wanted, json::to_vec(&document).into()))
}

fn root_paths(server: &ApiServer) -> Vec<String> {
    let mut paths: Vec<String> =
        ["/.well-known/openid-configuration", "/api", "/api/v1", "/apis", "/apis/"].map(str::to_owned).to_vec();
    for (name, versions) in &server.aggregation.groups(&server.catalogue.now(), Ties::Service) {
        paths.push(format!("/apis/{name}"));
        paths.extend(versions.iter().map(|v| format!("/apis/{name}/{v}")));
    }
    paths.extend(
        ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/readyz", "/version"]
            .map(str::to_owned),
    );
    paths.sort();
    paths
}

/// Whether one of some media types is acceptable.
fn accepts(accept: &str, types: &[&str]) -> bool {
    let mut clauses = accept.split(',').map(|clause| clause.split(';').next().unwrap_or_default().trim());
    clauses.any(|clause| {
        matches!(clause, "" | "*/*")
            || types
                .iter()
                .any(|ty| *ty == clause || clause.strip_suffix('*').is_some_and(|start| ty.starts_with(start)))
    }) || types.iter().any(|ty| accept.contains(ty))
}

/// An answer with an entity tag, or 304 when the client has it already.
fn with_tag(bytes: bytes::Bytes, content_type: &'static str, headers: &HeaderMap) -> Response<Body> {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
    let tag = format!("\"{}\"", digest.as_ref().iter().map(|b| format!("{b:02X}")).collect::<String>());
    let same = header_text(headers, header::IF_NONE_MATCH) == tag;
    let mut response = if same {
        answer::typed(304, content_type, answer::whole(""))
    } else {
        answer::typed(200, content_type, answer::whole(bytes))
    };
    if let Ok(value) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

/// The documents with their hashes: which are those of what they are made from, for to make them all takes long.
fn openapi_index(server: &ApiServer) -> Value {
    let shelf = server.catalogue.now();
    let mut paths = Map::new();
    let mut add = |name: String, gv: &GroupVersion| {
        let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        digest.update(server.config.version.as_bytes());
        digest.update(name.as_bytes());
        let served = shelf.all().filter(|s| s.resource.gv == *gv);
        served.filter_map(|s| s.custom.as_ref()).for_each(|c| digest.update(&json::to_vec(&c.definition.made_from)));
        let hash: String = digest.finish().as_ref().iter().map(|b| format!("{b:02X}")).collect();
        let url = format!("/openapi/v3/{name}?hash={hash}");
        paths.insert(name, map([("serverRelativeURL", url.into())]));
    };
    for gv in shelf.versions().filter(|gv| server.aggregation.of(gv).is_none()) {
        let name = if gv.group.is_empty() { format!("api/{gv}") } else { format!("apis/{gv}") };
        add(name, gv);
    }
    for (name, url) in server.aggregation.v3_index() {
        paths.insert(name, map([("serverRelativeURL", url.into())]));
    }
    map([("paths", paths.into())])
}

/// Where a document of OpenAPI v3 is, when a client asks for another state of it (by a hash) than there is.
pub(crate) fn moved_openapi(server: &ApiServer, path: &str, hash: &str) -> Option<String> {
    let index = openapi_index(server);
    let now = index.str_at(&["paths", path.strip_prefix("/openapi/v3/")?, "serverRelativeURL"]);
    (!now.is_empty() && !now.ends_with(&format!("?hash={hash}"))).then(|| now.to_owned())
}

fn openapi_document(server: &ApiServer, name: &str) -> Option<Arc<Packed>> {
    if let Some(elsewhere) = server.aggregation.document_elsewhere(name) {
        return elsewhere.remote.made_document();
    }
    if let Some(found) = server.documents.openapi.lock().get(name) {
        return Some(found.clone());
    }
    let (catalogue, version) = (&*server.catalogue.now(), &server.config.version);
    let find = |name: &str| custom::definitions::find(server, name);
    let v2 = || {
        let mut document = openapi::v2(catalogue, version, &find);
        server.aggregation.merge_v2(catalogue, &mut document);
        document
    };
    let bytes = match name {
        "v2" => json::to_vec(&v2()),
        "v2.pb" => openapi::gnostic::document(&v2()),
        "api/v1" => json::to_vec(&openapi::v3(catalogue, &GroupVersion::parse("v1"), version, &find)),
        _ => {
            let gv = GroupVersion::parse(name.strip_prefix("apis/")?);
            if !server.catalogue.now().has_version(&gv) {
                return None;
            }
            json::to_vec(&openapi::v3(catalogue, &gv, version, &find))
        }
    };
    let made = Arc::new(Packed::new(&bytes));
    server.documents.openapi.lock().insert(name.to_owned(), Arc::clone(&made));
    Some(made)
}
