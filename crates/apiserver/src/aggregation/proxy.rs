//! Requests about what another server has are passed on to it, as they come and as it answers.

use super::remote::{Remote, Unready};
use crate::answer::{self, Body, Broken};
use crate::authn::tell_who_asks;
use crate::kubelet::{self, is_hop};
use crate::server::{ApiServer, Incoming};
use crate::user::User;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;
use trireme_client::pool::{self, Outgoing};

/// Documents come within this, so that one server that is slow does not hold up who asks all of them.
pub(crate) const DOCUMENT: Duration = Duration::from_secs(5);

/// What a request brings besides itself.
pub(crate) struct Asked<'a> {
    pub user: &'a User,
    /// By which the audit logs of both servers name it.
    pub audit_id: &'a str,
    pub peer: Option<IpAddr>,
    /// When it is to have ended; none for what lasts.
    pub until: Option<Instant>,
}

/// Whether a request asks to leave HTTP.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    let asks = headers.get_all(header::CONNECTION).iter().filter_map(|v| v.to_str().ok());
    let mut words = asks.flat_map(|v| v.split(',')).map(str::trim);
    headers.contains_key(header::UPGRADE) && words.any(|word| word.eq_ignore_ascii_case("upgrade"))
}

/// Plain text, as Go's servers tell an error.
fn told(code: u16, text: &str) -> Response<Body> {
    answer::text(code, format!("{text}\n"))
}

/// Passes a request on, and its answer back.
pub(crate) async fn pass(
    server: &ApiServer,
    remote: &Remote,
    available: bool,
    request: Request<Incoming>,
    asked: Asked<'_>,
) -> Response<Body> {
    if !available {
        return told(503, "service unavailable");
    }
    let (peer, authority) = match remote.place(server) {
        Ok(place) => place,
        Err(Unready::Transport(why)) => return told(500, &why),
        Err(Unready::Location(why)) => {
            tracing::debug!(name = remote.name(), why, "the service of an APIService leads nowhere");
            return told(503, "service unavailable");
        }
    };
    let unreached = |why: &str| told(503, &format!("error trying to reach service: {why}"));
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str()).to_owned();
    let upgrade = is_upgrade(request.headers());
    let (mut parts, body) = request.into_parts();
    let headers = headers(&parts.headers, &parts.uri, &asked);
    if upgrade {
        let kept =
            [header::UPGRADE, header::CONNECTION].map(|name| parts.headers.get(&name).cloned().map(|v| (name, v)));
        parts.headers = headers;
        parts.headers.extend(kept.into_iter().flatten());
        let connection = match peer.connect(&authority).await {
            Ok(connection) => connection,
            Err(error) => return unreached(&error.0),
        };
        let forwarded = kubelet::forward(connection, Request::from_parts(parts, body), &path, &authority).await;
        return forwarded.unwrap_or_else(|status| unreached(&status.message));
    }
    let body: Outgoing = match body {
        Incoming::Whole(bytes) => pool::whole(bytes),
        Incoming::Network(body) => body.map_err(Into::into).boxed_unsync(),
    };
    let uri = match format!("https://{authority}{path}").parse() {
        Ok(uri) => uri,
        Err(error) => return told(500, &format!("{error}")),
    };
    let mut outgoing = Request::new(body);
    *outgoing.method_mut() = parts.method;
    *outgoing.uri_mut() = uri;
    *outgoing.headers_mut() = headers;
    let sent = peer.send(outgoing);
    let answered = match asked.until {
        Some(until) => match tokio::time::timeout_at(until, sent).await {
            Ok(answered) => answered,
            Err(_) => return unreached("context deadline exceeded"),
        },
        None => sent.await,
    };
    match answered {
        Ok(response) => passed_back(response, asked.until),
        Err(error) => unreached(&error.0),
    }
}

/// The headers that are sent on: those that came, but for those of the connection, and who asks.
fn headers(came: &HeaderMap, uri: &http::Uri, asked: &Asked<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let connection: Vec<String> = came
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(|word| word.trim().to_ascii_lowercase())
        .collect();
    for (name, value) in came {
        let of_connection = connection.iter().any(|word| word == name.as_str()) || name == header::EXPECT;
        if !is_hop(name) && !of_connection && name != header::AUTHORIZATION {
            headers.append(name.clone(), value.clone());
        }
    }
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set("audit-id", asked.audit_id);
    set("x-forwarded-uri", uri.path());
    let host = came.get(header::HOST).and_then(|h| h.to_str().ok()).or_else(|| uri.authority().map(|a| a.as_str()));
    if let Some(host) = host {
        set("x-forwarded-host", host);
    }
    set("x-forwarded-proto", "https");
    if let Some(peer) = asked.peer {
        let before = came.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok()).map(str::to_owned);
        let way: Vec<String> = before.chain([peer.to_string()]).collect();
        set("x-forwarded-for", &way.join(", "));
    }
    tell_who_asks(&mut headers, asked.user);
    headers
}

/// The answer as it is sent back.
fn passed_back(response: Response<hyper::body::Incoming>, until: Option<Instant>) -> Response<Body> {
    let (parts, body) = response.into_parts();
    if parts.status.is_redirection() && parts.headers.contains_key(header::LOCATION) {
        // Who asks has credentials for this server, and is not to be led elsewhere with them.
        let text = "the backend attempted to redirect this request, which is not permitted";
        let mut refused = Response::new(answer::whole(text));
        *refused.status_mut() = StatusCode::BAD_GATEWAY;
        return refused;
    }
    let body = answer::passed_on(body);
    let mut back = Response::new(match until {
        Some(until) => ending(body, until),
        None => body,
    });
    *back.status_mut() = parts.status;
    for (name, value) in &parts.headers {
        // Other origins are for this server to allow.
        let allows = name.as_str().starts_with("access-control-allow-");
        if (!is_hop(name) || name == header::CONTENT_LENGTH) && !allows {
            back.headers_mut().append(name.clone(), value.clone());
        }
    }
    back
}

/// A body that breaks off when it has not ended in time.
fn ending(body: Body, until: Instant) -> Body {
    let pieces = futures::stream::unfold(Some(body), move |body| async move {
        let mut body = body?;
        loop {
            match tokio::time::timeout_at(until, body.frame()).await {
                Ok(None) => return None,
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Some((Ok(data), Some(body)));
                    }
                }
                Ok(Some(Err(broken))) => return Some((Err(broken), None)),
                Err(_) => return Some((Err(Broken("it took too long".into())), None)),
            }
        }
    });
    answer::breakable(futures::StreamExt::boxed(pieces))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_say_who_asks_and_nothing_of_the_connection() {
        let mut came = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("connection", "close, x-mine"),
            ("x-mine", "1"),
            ("x-remote-user", "root"),
            ("x-remote-group", "system:masters"),
            ("x-remote-extra-a", "b"),
            ("host", "api.example.com"),
            ("accept", "application/json"),
            ("x-forwarded-for", "192.0.2.7"),
        ] {
            came.append(name, HeaderValue::from_static(value));
        }
        let user = User { uid: "u".into(), ..User::new("ann", &["a"]) };
        let peer = Some([192, 0, 2, 1].into());
        let asked = Asked { user: &user, audit_id: "id", peer, until: None };
        let sent = headers(&came, &http::Uri::from_static("/apis/g/v1/x?y=1"), &asked);
        let mut lines: Vec<String> =
            sent.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        assert_eq!(
            lines,
            [
                "accept: application/json",
                "audit-id: id",
                "x-forwarded-for: 192.0.2.7, 192.0.2.1",
                "x-forwarded-host: api.example.com",
                "x-forwarded-proto: https",
                "x-forwarded-uri: /apis/g/v1/x",
                "x-remote-group: a",
                "x-remote-group: system:authenticated",
                "x-remote-uid: u",
                "x-remote-user: ann",
            ]
        );
    }

    #[test]
    fn an_upgrade_is_asked_for_in_two_headers() {
        let with = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_static(value));
            }
            is_upgrade(&headers)
        };
        assert!(with(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]));
        assert!(!with(&[("upgrade", "websocket")]) && !with(&[("connection", "upgrade")]));
    }
}
