//! Paths that are no resources: health, documents, and all that is not there.

use crate::answer::{self, Body};
use crate::discovery;
use crate::health;
use crate::media::Wanted;
use crate::request::{Query, RequestInfo};
use crate::server::ApiServer;
use http::{HeaderMap, HeaderValue, Response, header};
use std::sync::Arc;
use trireme_schema::Status;

/// Whether a request is about an API that there is; all others are told so in plain text.
pub(crate) fn is_api(server: &ApiServer, info: &RequestInfo) -> bool {
    let mut parts = info.path.split('/').skip(1);
    match (parts.next(), parts.next()) {
        (Some("api"), _) | (Some("apis"), None | Some("")) => true,
        (Some("apis"), Some(group)) if server.catalogue.is_builtin_group(group) => true,
        // Of groups that definitions bring, there is no more than they say.
        (Some("apis"), Some(group)) if info.is_resource => {
            server.catalogue.find(group, &info.version, &info.resource).is_some()
        }
        (Some("apis"), Some(group)) => {
            let version = parts.next().unwrap_or_default();
            let shelf = server.catalogue.now();
            let own = shelf.versions().any(|gv| gv.group == group && (version.is_empty() || gv.version == version));
            // Versions that other servers have are theirs to tell of.
            own || (version.is_empty() && server.aggregation.has_group(group))
        }
        _ => false,
    }
}

/// 404 as Go's HTTP server says it.
pub(crate) fn not_found() -> Response<Body> {
    answer::text(404, "404 page not found\n")
}

/// Answers a request that is about no resource.
///
/// # Errors
/// 404, and 405 for what can only be read.
pub(crate) fn answer(
    server: &Arc<ApiServer>,
    info: &RequestInfo,
    query: &Query,
    headers: &HeaderMap,
    wanted: Wanted,
) -> Result<Response<Body>, Status> {
    if info.path.starts_with("//") {
        return Ok(not_found());
    }
    // Health is told whatever the method.
    let asked = RequestInfo { verb: "get".into(), ..info.clone() };
    let checks = ["/healthz", "/livez", "/readyz", "/metrics"].iter().any(|root| info.path.starts_with(root));
    if query.has("hash")
        && let Some(place) = discovery::moved_openapi(server, &info.path, query.get("hash"))
        && let Ok(place) = HeaderValue::from_str(&place)
    {
        let mut moved = answer::typed(301, "application/json", answer::whole(""));
        moved.headers_mut().insert(header::LOCATION, place);
        return Ok(moved);
    }
    let found = match health::answer(server, &asked, query) {
        Some(response) => Ok(response),
        None => discovery::answer(server, &asked, headers, wanted),
    };
    match found {
        // Documents of groups that there are not: upstream says nothing but 404.
        Err(status) if status.code == 404 && info.path.starts_with("/openapi/") => {
            let mut nothing = Response::new(answer::whole(""));
            *nothing.status_mut() = http::StatusCode::NOT_FOUND;
            Ok(nothing)
        }
        Err(status) if status.code == 404 && !is_api(server, info) => Ok(not_found()),
        Ok(_) if info.verb != "get" && !checks => Err(Status::method_not_allowed("", "", "")
            .with_message("the server does not allow this method on the requested resource")),
        other => other,
    }
}
