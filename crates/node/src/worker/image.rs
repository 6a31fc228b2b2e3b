//! Images of containers: there, or to be pulled.

use super::start::Failure;
use super::{Worker, unless_deleted};
use crate::backoff::Backoff;
use crate::pull_secrets;
use jiff::Timestamp;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use trireme_client::EventKind;
use trireme_cri as cri;
use trireme_schema::Value;

/// What came of pulling an image.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pulls {
    backoff: Backoff,
    /// When it last failed, and why.
    failed: Option<(Timestamp, String)>,
}

impl Worker {
    async fn find(&self, pod: &Value, name: &str, image: &cri::ImageSpec) -> Result<Option<cri::Image>, Failure> {
        let request = cri::ImageStatusRequest { image: Some(image.clone()), verbose: false };
        let answer = self.shared.cri.images.clone().image_status(request).await;
        answer.map(|a| a.into_inner().image).map_err(|status| {
            let (image, why) = (&image.image, status.message());
            let (reason, text) = match status.code() {
                tonic::Code::InvalidArgument => {
                    let text = format!(
                        "Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: {why}"
                    );
                    ("InvalidImageName", text)
                }
                code => {
                    let why = format!("rpc error: code = {code:?} desc = {why}");
                    ("ImageInspectError", format!("Failed to inspect image {image:?}: {why}"))
                }
            };
            self.event(pod, name, EventKind::Warning, "InspectFailed", text.clone());
            Failure { told: Some(reason.to_owned()), ..Failure::new(reason, text) }
        })
    }

    /// The image of a container, pulled if its policy says so.
    pub(super) async fn image(&mut self, pod: &Value, spec: &Value, name: &str) -> Result<cri::Image, Failure> {
        self.obtain(pod, name, spec.str_at(&["image"]), spec.str_at(&["imagePullPolicy"])).await
    }

    /// The images of the volumes that a container mounts, by volume.
    pub(super) async fn image_volumes(
        &mut self,
        pod: &Value,
        spec: &Value,
        name: &str,
    ) -> Result<HashMap<String, String>, Failure> {
        let mut out = HashMap::new();
        for volume in pod.list_at(&["spec", "volumes"]) {
            let mounted = spec.list_at(&["volumeMounts"]).iter().any(|m| m.get("name") == volume.get("name"));
            let Some(source) = volume.get("image").filter(|_| mounted) else { continue };
            let image = self.obtain(pod, name, source.str_at(&["reference"]), source.str_at(&["pullPolicy"])).await?;
            out.insert(volume.str_at(&["name"]).to_owned(), image.id);
        }
        Ok(out)
    }

    async fn obtain(&mut self, pod: &Value, name: &str, wanted: &str, policy: &str) -> Result<cri::Image, Failure> {
        let image = cri::ImageSpec {
            image: wanted.to_owned(),
            user_specified_image: wanted.to_owned(),
            ..cri::ImageSpec::default()
        };
        match (self.find(pod, name, &image).await?, policy) {
            (Some(here), "IfNotPresent" | "Never") => {
                let text =
                    format!("Container image {wanted:?} already present on machine and can be accessed by the pod");
                self.event(pod, name, EventKind::Normal, "Pulled", text);
                return Ok(here);
            }
            (None, "Never") => {
                let why = format!("Container image {wanted:?} is not present with pull policy of Never");
                self.event(pod, name, EventKind::Warning, "ErrImageNeverPull", why.clone());
                return Err(Failure {
                    told: Some("ErrImageNeverPull".into()),
                    ..Failure::new("ErrImageNeverPull", why)
                });
            }
            _ => {}
        }
        self.pull(pod, name, &image).await?;
        self.find(pod, name, &image).await?.ok_or_else(|| Failure::new("ErrImagePull", "the image is gone again"))
    }

    async fn pull(&mut self, pod: &Value, name: &str, image: &cri::ImageSpec) -> Result<(), Failure> {
        let wanted = image.image.as_str();
        let pulls = self.pulls.entry(wanted.to_owned()).or_default();
        if let Some((failed, why)) = &pulls.failed
            && let Some(left) = pulls.backoff.left(*failed, Timestamp::now())
        {
            let text = format!("Back-off pulling image {wanted:?}");
            let message = format!("{text}: ErrImagePull: {why}");
            return Err(self.back_off(pod, name, text, message, left));
        }
        self.event(pod, name, EventKind::Normal, "Pulling", format!("Pulling image {wanted:?}"));
        let begun = Instant::now();
        let pulled = unless_deleted(self.pod.clone(), self.pull_as_somebody(pod, image)).await;
        match pulled.unwrap_or_else(|| Err("the pod is being deleted".to_owned())) {
            Ok(()) => {
                self.pulls.remove(wanted);
                let size = self.find(pod, name, image).await?.map_or(0, |i| i.size);
                let took = begun.elapsed();
                let took = if took.as_secs() > 0 {
                    format!("{:.3}s", took.as_secs_f64())
                } else {
                    format!("{}ms", took.as_millis())
                };
                let text = format!(
                    "Successfully pulled image {wanted:?} in {took} ({took} including waiting). Image size: {size} bytes."
                );
                self.event(pod, name, EventKind::Normal, "Pulled", text);
                Ok(())
            }
            Err(why) => {
                let text = format!("Failed to pull image {wanted:?}: {why}");
                self.event(pod, name, EventKind::Warning, "Failed", text);
                let pulls = self.pulls.entry(wanted.to_owned()).or_default();
                let now = Timestamp::now();
                let failed = pulls.failed.as_ref().map_or(now, |(at, _)| *at);
                pulls.backoff.tried(failed, now);
                pulls.failed = Some((now, why.clone()));
                // It is looked at again soon, and is found to wait then.
                let told = Some("ErrImagePull".to_owned());
                Err(Failure { told, again: Duration::from_secs(1), ..Failure::new("ErrImagePull", why) })
            }
        }
    }

    fn back_off(&self, pod: &Value, name: &str, text: String, message: String, again: Duration) -> Failure {
        let waits = self.notes.get(name).and_then(|n| n.waiting.as_ref()).is_some_and(|w| w.0 == "ImagePullBackOff");
        let told = (!waits).then(|| {
            self.event(pod, name, EventKind::Normal, "BackOff", text);
            "ImagePullBackOff".to_owned()
        });
        Failure { told, again, ..Failure::new("ImagePullBackOff", message) }
    }

    /// Pulls with each of the pod's credentials that fit, or as nobody.
    async fn pull_as_somebody(&self, pod: &Value, image: &cri::ImageSpec) -> Result<(), String> {
        let mut auths = pull_secrets::find(&self.shared.client, pod, &image.image).await;
        if auths.is_empty() {
            auths.push(None);
        }
        let mut why = String::new();
        for auth in auths {
            let request = cri::PullImageRequest { image: Some(image.clone()), auth, sandbox_config: None };
            match self.shared.cri.images.clone().pull_image(request).await {
                Ok(_) => return Ok(()),
                Err(status) => {
                    why = format!("rpc error: code = {:?} desc = {}", status.code(), status.message());
                }
            }
        }
        Err(why)
    }
}
