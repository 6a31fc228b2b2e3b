//! ImagePolicyWebhook: a service elsewhere says which images may run (`ImageReview` of imagepolicy.k8s.io/v1alpha1).

use super::{Attributes, Operation};
use crate::outbound::{CallError, Outbound};
use crate::remembered::Remembered;
use bytes::Bytes;
use futures::future::BoxFuture;
use std::path::Path;
use std::time::Duration;
use trireme_schema::{Map, Status, Value, json, time};

/// Answers that are kept at most (upstream's cache).
const MOST: usize = 1024;
/// The service is asked this often, with growing pauses, each time for so long.
const TRIES: u32 = 5;
const FACTOR: f64 = 1.5;
const WITHIN: Duration = Duration::from_secs(30);
/// What annotations of the audit log begin with.
const AUDIT: &str = "imagepolicywebhook.image-policy.k8s.io/";
/// Annotations of pods that the service is shown have this in their keys.
const SHOWN: &str = ".image-policy.k8s.io/";

/// How the service is asked.
pub(super) struct Settings {
    service: Outbound,
    allowed_life: Duration,
    denied_life: Duration,
    back_off: Duration,
    /// What holds when it cannot be asked.
    default_allow: bool,
    answers: Remembered<Bytes, Answer>,
}

/// What it said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Answer {
    allowed: bool,
    reason: String,
    notes: Vec<(String, String)>,
}

impl Settings {
    /// Reads the plugin's configuration. The kubeconfig that it names is relative to the working directory, as upstream's.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(config: Option<&Value>) -> Result<Self, String> {
        let wrong = |why: String| format!("ImagePolicyWebhook: {why}");
        let policy = config.and_then(|c| c.get("imagePolicy")).ok_or_else(|| wrong("no config specified".into()))?;
        let file = policy.str_at(&["kubeConfigFile"]);
        if file.is_empty() {
            return Err(wrong("imagePolicy.kubeConfigFile: must be given".into()));
        }
        let seconds = Duration::from_secs;
        let time = |name: &str, unit: Duration, least: Duration, most: Duration, default: Duration| {
            time(policy.int_at(&[name]).unwrap_or(0), unit, (least, most), default)
                .map_err(|why| wrong(format!("imagePolicy.{name}: {why}")))
        };
        let millisecond = Duration::from_millis(1);
        Ok(Self {
            service: Outbound::of_kubeconfig(Path::new(file)).map_err(wrong)?,
            allowed_life: time("allowTTL", seconds(1), seconds(1), seconds(1800), seconds(300))?,
            denied_life: time("denyTTL", seconds(1), seconds(1), seconds(1800), seconds(30))?,
            back_off: time("retryBackoff", millisecond, millisecond, seconds(300), Duration::from_millis(500))?,
            default_allow: policy.bool_at(&["defaultAllow"]),
            answers: Remembered::new(MOST),
        })
    }

    async fn ask(&self, question: &Bytes) -> Result<Answer, CallError> {
        let mut pause = self.back_off;
        for _ in 1..TRIES {
            match self.service.post(question.clone(), WITHIN).await {
                // What another try may change.
                Err(CallError::Status(_, 429 | 500 | 504)) => {}
                other => return other.map(|review| Answer::read(&review)),
            }
            tokio::time::sleep(pause).await;
            pause = pause.mul_f64(FACTOR);
        }
        self.service.post(question.clone(), WITHIN).await.map(|review| Answer::read(&review))
    }
}

/// A number of units; 0 is the default, and -1 is none.
fn time(
    number: i64,
    unit: Duration,
    (least, most): (Duration, Duration),
    default: Duration,
) -> Result<Duration, String> {
    match number {
        0 => Ok(default),
        -1 => Ok(Duration::ZERO),
        number => {
            let given = u32::try_from(number).ok().and_then(|n| unit.checked_mul(n));
            given.filter(|given| (least..=most).contains(given)).ok_or_else(|| {
                let shown = |d: Duration| time::duration(i64::try_from(d.as_nanos()).unwrap_or(i64::MAX));
                format!("valid value is between {} and {}, got {number}", shown(least), shown(most))
            })
        }
    }
}

impl Answer {
    fn read(review: &Value) -> Self {
        let notes = review.at(&["status", "auditAnnotations"]).and_then(Value::as_object);
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        Self {
            allowed: review.bool_at(&["status", "allowed"]),
            reason: review.str_at(&["status", "reason"]).to_owned(),
            notes: notes.into_iter().flat_map(|m| m.iter()).map(|(k, v)| (k.to_string(), text(v))).collect(),
        }
    }

    /// Why the images may not run; nothing if they may.
    fn refusal(&self) -> Option<String> {
        match (self.allowed, self.reason.as_str()) {
            (true, _) => None,
            (false, "") => Some("one or more images rejected by webhook backend".into()),
            (false, why) => Some(format!("image policy webhook backend denied one or more images: {why}")),
        }
    }
}

/// The review of a pod's images; of ephemeral containers, only theirs.
fn review(pod: &Value, namespace: &str, ephemeral: bool) -> Value {
    let lists: &[&str] = if ephemeral { &["ephemeralContainers"] } else { &["containers", "initContainers"] };
    let containers = lists.iter().flat_map(|list| pod.list_at(&["spec", list]));
    let images = containers.map(|c| Value::Object(Map::from_iter([("image", c.str_at(&["image"]))])));
    let mut spec = Map::new();
    spec.insert("containers", Value::Array(images.collect()));
    let annotations = pod.at(&["metadata", "annotations"]).and_then(Value::as_object);
    let shown = annotations.into_iter().flat_map(|m| m.iter()).filter(|(key, _)| key.contains(SHOWN));
    let shown: Map = shown.map(|(key, value)| (key.clone(), value.clone())).collect();
    if !shown.is_empty() {
        spec.insert("annotations", Value::Object(shown));
    }
    spec.insert("namespace", namespace);
    let mut review = Map::from_iter([("kind", "ImageReview"), ("apiVersion", "imagepolicy.k8s.io/v1alpha1")]);
    review.insert("spec", Value::Object(spec));
    review.insert("status", Value::Object(Map::from_iter([("allowed", false)])));
    Value::Object(review)
}

/// Refuses a pod whose images the service does not allow.
pub(super) fn check<'a>(
    attributes: &'a Attributes<'a>,
    pod: &'a Value,
    _: Option<&'a Value>,
) -> BoxFuture<'a, Result<(), Status>> {
    Box::pin(async move {
        let ephemeral = attributes.is("", "pods", "ephemeralcontainers");
        let asked = matches!(attributes.operation, Operation::Create | Operation::Update);
        let Some(settings) = attributes.server.admission.image_policy.as_ref() else { return Ok(()) };
        if !asked || !(ephemeral || attributes.is("", "pods", "")) {
            return Ok(());
        }
        let notes = &attributes.target.notes;
        let question = Bytes::from(json::to_vec(&review(pod, &attributes.target.namespace, ephemeral)));
        let answer = match settings.answers.get(&question) {
            Some(answer) => answer,
            None => match settings.ask(&question).await {
                Ok(answer) => {
                    let life = if answer.allowed { settings.allowed_life } else { settings.denied_life };
                    settings.answers.keep(question, answer.clone(), life);
                    answer
                }
                Err(error) if settings.default_allow => {
                    tracing::warn!(%error, "images cannot be reviewed, and are allowed");
                    notes.annotate(&format!("{AUDIT}failed-open"), "true");
                    return Ok(());
                }
                Err(error) => return Err(attributes.forbidden(pod, &error.to_string())),
            },
        };
        for (key, value) in &answer.notes {
            notes.annotate(&format!("{AUDIT}{key}"), value.as_str());
        }
        answer.refusal().map_or(Ok(()), |why| Err(attributes.forbidden(pod, &why)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_bounds() {
        let seconds = Duration::from_secs;
        let of = |n| time(n, seconds(1), (seconds(1), seconds(1800)), seconds(300));
        assert_eq!((of(0), of(-1), of(50)), (Ok(seconds(300)), Ok(seconds(0)), Ok(seconds(50))));
        assert_eq!(of(1801).unwrap_err(), "valid value is between 1s and 30m0s, got 1801");
        assert!(of(-2).is_err());
    }

    #[test]
    fn a_review_shows_images_and_the_annotations_that_are_meant_for_it() {
        let pod = json::parse(
            br#"{"metadata":{"annotations":{"a":"b","x.image-policy.k8s.io/t":"1"}},"spec":{"containers":[{"image":"a"}],
            "initContainers":[{"image":"b"}],"ephemeralContainers":[{"image":"c"}]}}"#,
        )
        .unwrap();
        let shown = json::to_vec(&review(&pod, "n", false));
        assert_eq!(
            String::from_utf8(shown).unwrap(),
            concat!(
                r#"{"apiVersion":"imagepolicy.k8s.io/v1alpha1","kind":"ImageReview","spec":{"annotations":{"x.image-policy.k8s.io/t":"1"},"#,
                r#""containers":[{"image":"a"},{"image":"b"}],"namespace":"n"},"status":{"allowed":false}}"#
            )
        );
        let only = review(&pod, "n", true);
        assert_eq!(only.list_at(&["spec", "containers"]).len(), 1);
    }
}
