//! Logs of containers.

use super::follow::{HasEnded, Live, Log};
use super::log_line::{Shown, Wanted};
use super::{Api, Body, Place, find, query};
use crate::cri::Cri;
use crate::watch::Watch;
use futures::{FutureExt, StreamExt};
use http::StatusCode;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use trireme_cri::{ContainerState, ContainerStatusRequest};
use trireme_schema::json;

type Refusal = (StatusCode, String);

/// What a client wants of a log (`PodLogOptions`).
#[derive(Debug, Default)]
struct Options {
    previous: bool,
    follow: bool,
    tail: Option<u64>,
    limit: Option<u64>,
    wanted: Wanted,
}

impl Options {
    fn of(pairs: Vec<(String, String)>, now: Timestamp) -> Self {
        let all: HashMap<String, String> = pairs.into_iter().collect();
        let flag = |name: &str| all.get(name).is_some_and(|v| query::is_yes(v));
        let number = |name: &str| all.get(name).and_then(|n| n.parse().ok());
        let ago =
            |seconds: u64| now.checked_sub(SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))).ok();
        Self {
            previous: flag("previous"),
            follow: flag("follow"),
            tail: number("tailLines"),
            limit: number("limitBytes"),
            wanted: Wanted {
                timestamps: flag("timestamps"),
                since: match number("sinceSeconds") {
                    Some(seconds) => ago(seconds),
                    None => all.get("sinceTime").and_then(|at| at.parse().ok()),
                },
                stream: all.get("stream").filter(|s| !s.eq_ignore_ascii_case("all")).cloned(),
            },
        }
    }
}

impl Api {
    /// The log of a container.
    pub(super) async fn logs(self, place: Place, query: Vec<(String, String)>) -> Result<Body, Refusal> {
        let options = Options::of(query, Timestamp::now());
        // Before the state is asked, so that an end in between is heard.
        let heard = self.events.hear();
        let all = find::containers(&self.cri, &place).await?;
        let chosen = if options.previous { all.get(1) } else { all.first() };
        let Some(status) = chosen else {
            let why = match options.previous {
                true => no_previous(&place),
                false => why_none(&place, self.waiting_for(&place).await),
            };
            return Err((StatusCode::BAD_REQUEST, why));
        };
        let path = PathBuf::from(&status.log_path);
        let failed = |e: std::io::Error| (StatusCode::INTERNAL_SERVER_ERROR, format!("{}: {e}", status.log_path));
        let live = match options.follow {
            true => Some(Live {
                // Before it is read, so that nothing written in between is missed. The name may be a link.
                watch: Watch::directory(path.canonicalize().map_err(failed)?.parent().unwrap_or(Path::new("/"))),
                heard,
                has_ended: has_ended(self.cri, status.id.clone()),
                uid: status.labels.get(crate::cri::label::UID).cloned().unwrap_or_default(),
                ended: status.state() == ContainerState::ContainerExited,
            }),
            false => None,
        };
        let log = Log::open(path, options.tail, Shown::new(options.wanted), options.limit, live).await;
        let log = log.map_err(failed)?;
        let pieces = futures::stream::unfold(log, |mut log| async move { log.next().await.map(|piece| (piece, log)) });
        Ok(StreamBody::new(pieces.map(|b| Ok::<_, Infallible>(Frame::data(b)))).boxed_unsync())
    }
}

impl Api {
    /// The reason that the pod's status gives for a container's waiting; `None` if it does not speak of the container.
    async fn waiting_for(&self, place: &Place) -> Option<String> {
        let path = format!("/api/v1/namespaces/{}/pods/{}", place.namespace, place.pod);
        let answer = self.client.request(http::Method::GET, &path, None).await.ok()?;
        let pod = json::parse(answer.body()).ok()?;
        ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"]
            .into_iter()
            .flat_map(|list| pod.list_at(&["status", list]))
            .find(|status| status.str_at(&["name"]) == place.container)
            .map(|status| status.str_at(&["state", "waiting", "reason"]).to_owned())
    }
}

/// Asks the runtime whether a container has ended; one that cannot be asked goes on.
fn has_ended(cri: Cri, id: String) -> HasEnded {
    Box::new(move || {
        let mut runtime = cri.runtime.clone();
        let request = ContainerStatusRequest { container_id: id.clone(), verbose: false };
        async move {
            match runtime.container_status(request).await {
                Ok(answer) => answer.into_inner().status.is_none_or(|s| s.state() == ContainerState::ContainerExited),
                Err(status) => status.code() == tonic::Code::NotFound,
            }
        }
        .boxed()
    })
}

fn no_previous(place: &Place) -> String {
    let Place { pod, container, .. } = place;
    format!("previous terminated container {container:?} in pod {pod:?} not found")
}

/// Why a container has no log, by the reason that its status gives for its waiting.
fn why_none(place: &Place, reason: Option<String>) -> String {
    let Place { pod, container, .. } = place;
    let start = format!("container {container:?} in pod {pod:?} is");
    match reason.as_deref() {
        None => format!("{start} not available"),
        Some("ErrImagePull") => format!("{start} waiting to start: image can't be pulled"),
        Some("ImagePullBackOff") => format!("{start} waiting to start: trying and failing to pull image"),
        Some("") => format!("{start} waiting to start - no logs yet"),
        Some(reason) => format!("{start} waiting to start: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_without_a_log_says_what_it_waits_for() {
        let place = Place { namespace: "default".into(), pod: "web".into(), container: "main".into() };
        for (reason, why) in [
            (None, "not available"),
            (Some(""), "waiting to start - no logs yet"),
            (Some("ContainerCreating"), "waiting to start: ContainerCreating"),
            (Some("ImagePullBackOff"), "waiting to start: trying and failing to pull image"),
            (Some("ErrImagePull"), "waiting to start: image can't be pulled"),
        ] {
            let want = format!("container \"main\" in pod \"web\" is {why}");
            assert_eq!(why_none(&place, reason.map(str::to_owned)), want);
        }
    }

    #[test]
    fn parameters_say_what_is_wanted() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let options = |query: &str| {
            let pairs = query.split('&').filter_map(|p| p.split_once('='));
            Options::of(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(), now)
        };
        let all = options("follow=true&previous=1&tailLines=3&limitBytes=4&timestamps=true&stream=Stderr");
        assert!(all.follow && all.previous && all.wanted.timestamps);
        assert_eq!((all.tail, all.limit, all.wanted.stream.as_deref()), (Some(3), Some(4), Some("Stderr")));
        for (query, since) in [
            ("sinceSeconds=5", Some("2026-01-02T03:04:00Z")),
            ("sinceTime=2026-01-01T00:00:00Z", Some("2026-01-01T00:00:00Z")),
            ("sinceSeconds=18446744073709551615", None),
            ("stream=All&sinceTime=never", None),
        ] {
            let wanted = options(query).wanted;
            assert_eq!((wanted.since, wanted.stream), (since.map(|s| s.parse().unwrap()), None), "{query}");
        }
    }
}
