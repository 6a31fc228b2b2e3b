//! What a webhook is asked, and what its answer means.

use super::{Named, Phase, Reviews};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use trireme_schema::{GroupVersion, Map, Status, Value, json};

/// A request, as a webhook sees it.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// Identifies the request and its answer.
    pub uid: &'a str,
    /// The kind of the objects below.
    pub kind: (&'a GroupVersion, &'a str),
    /// Their resource.
    pub named: Named<'a>,
    /// The kind and resource that the client asked for, when it is another version.
    pub original: ((&'a GroupVersion, &'a str), Named<'a>),
    /// The name; may be empty when it is to be made.
    pub name: &'a str,
    /// The namespace; empty for objects of the cluster.
    pub namespace: &'a str,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub operation: &'a str,
    /// `username`, `uid`, `groups`, `extra`.
    pub user: Value,
    /// The new object; null when it is deleted.
    pub object: &'a Value,
    /// The old one; null when there is none.
    pub old: &'a Value,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// The options of the operation, with kind and version.
    pub options: Value,
}

/// What a webhook said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Why not, if the request is refused.
    pub refusal: Option<Status>,
    /// JSON patch (RFC 6902) of the object.
    pub patch: Option<Vec<u8>>,
    /// For the audit log, by key.
    pub audit: Vec<(String, String)>,
    /// For the client.
    pub warnings: Vec<String>,
}

/// An answer that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("received invalid webhook response: {0}")]
pub struct BadAnswer(String);

impl Reviews {
    fn api_version(self) -> &'static str {
        match self {
            Reviews::V1 => "admission.k8s.io/v1",
            Reviews::V1Beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

fn kind((gv, kind): (&GroupVersion, &str)) -> Map {
    Map::from_iter([("group", gv.group.as_str()), ("version", gv.version.as_str()), ("kind", kind)])
}

fn resource(named: &Named<'_>) -> Map {
    Map::from_iter([("group", named.group), ("version", named.version), ("resource", named.resource)])
}

impl Asked<'_> {
    /// The `AdmissionReview` that is sent.
    pub fn review(&self, reviews: Reviews) -> Vec<u8> {
        let mut request = Map::new();
        request.insert("uid", self.uid);
        request.insert("kind", kind(self.kind));
        request.insert("resource", resource(&self.named));
        let (original_kind, original) = &self.original;
        let mut text = |field: &str, text: &str| {
            if !text.is_empty() {
                request.insert(field, text);
            }
        };
        text("subResource", self.named.subresource);
        text("requestSubResource", original.subresource);
        text("name", self.name);
        text("namespace", self.namespace);
        request.insert("requestKind", kind(*original_kind));
        request.insert("requestResource", resource(original));
        request.insert("operation", self.operation);
        request.insert("userInfo", self.user.clone());
        request.insert("object", self.object.clone());
        request.insert("oldObject", self.old.clone());
        request.insert("dryRun", self.dry_run);
        request.insert("options", self.options.clone());
        let mut review = Map::from_iter([("kind", "AdmissionReview"), ("apiVersion", reviews.api_version())]);
        review.insert("request", request);
        json::to_vec(&Value::Object(review))
    }
}

impl Verdict {
    /// Reads the answer of the webhook `name`.
    ///
    /// # Errors
    /// When it is no `AdmissionReview` of the version and request that it was asked.
    pub fn read(name: &str, phase: Phase, reviews: Reviews, uid: &str, bytes: &[u8]) -> Result<Self, BadAnswer> {
        let bad = |what: String| BadAnswer(what);
        let review = json::parse(bytes).map_err(|e| bad(e.to_string()))?;
        let (version, kind) = (review.str_at(&["apiVersion"]), review.str_at(&["kind"]));
        let old_style = reviews == Reviews::V1Beta1;
        // The first webhooks did not tell the version of what they answered.
        let told = if old_style && version.is_empty() && kind.is_empty() {
            (reviews.api_version(), "AdmissionReview")
        } else {
            (version, kind)
        };
        if told != (reviews.api_version(), "AdmissionReview") {
            return Err(bad(format!(
                "expected webhook response of {}, Kind=AdmissionReview, got {version}, Kind={kind}",
                reviews.api_version()
            )));
        }
        let response = review.get("response").filter(|r| !r.is_null());
        let Some(response) = response else { return Err(bad("webhook response was absent".into())) };
        let answered = response.str_at(&["uid"]);
        if !old_style && answered != uid {
            return Err(bad(format!("expected response.uid={uid:?}, got {answered:?}")));
        }
        let warnings = response.list_at(&["warnings"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let audit = response.at(&["auditAnnotations"]).and_then(Value::as_object).into_iter().flat_map(Map::iter);
        let audit = audit.map(|(k, v)| (format!("{name}/{k}"), v.as_str().unwrap_or_default().to_owned())).collect();
        let mut verdict = Self { warnings, audit, ..Self::default() };
        if !response.bool_at(&["allowed"]) {
            verdict.refusal = Some(refusal(name, response.get("status")));
            return Ok(verdict);
        }
        if phase == Phase::Mutating {
            verdict.patch = patch(response, old_style).map_err(bad)?;
        }
        Ok(verdict)
    }
}

fn patch(response: &Value, old_style: bool) -> Result<Option<Vec<u8>>, String> {
    let text = response.str_at(&["patch"]);
    let kind = response.str_at(&["patchType"]);
    match (text, kind) {
        ("", "") => Ok(None),
        ("", _) => Err("webhook returned response.patchType but not response.patch".into()),
        (_, "") if !old_style => Err("webhook returned response.patch but not response.patchType".into()),
        (text, "JSONPatch" | "") => {
            let bytes = BASE64_STANDARD.decode(text).map_err(|_| "response.patch is no base64".to_owned())?;
            Ok(Some(bytes).filter(|b| !b.is_empty()))
        }
        (_, other) => Err(format!("webhook returned invalid response.patchType of {other:?}")),
    }
}

/// A refusal never looks like a success, whatever the webhook wrote into it.
fn refusal(name: &str, status: Option<&Value>) -> Status {
    let empty = Value::object();
    let status = status.unwrap_or(&empty);
    let denied = format!("admission webhook {name:?} denied the request");
    let (message, reason) = (status.str_at(&["message"]), status.str_at(&["reason"]));
    let message = match (message, reason) {
        ("", "") => format!("{denied} without explanation"),
        ("", reason) => format!("{denied}: {reason}"),
        (message, _) => format!("{denied}: {message}"),
    };
    let code = status.int_at(&["code"]).and_then(|c| u16::try_from(c).ok()).unwrap_or_default();
    let code = if (400..600).contains(&code) { code } else { 400 };
    let mut refusal = Status::failure(code, reason.to_owned(), message);
    refusal.details = status.get("details").and_then(details).map(Box::new);
    refusal
}

fn details(value: &Value) -> Option<trireme_schema::Details> {
    let text = |field: &str| value.str_at(&[field]).to_owned();
    let cause = |c: &Value| trireme_schema::Cause {
        reason: c.str_at(&["reason"]).to_owned(),
        message: c.str_at(&["message"]).to_owned(),
        field: c.str_at(&["field"]).to_owned(),
    };
    value.as_object()?;
    Some(trireme_schema::Details {
        name: text("name"),
        group: text("group"),
        kind: text("kind"),
        uid: text("uid"),
        causes: value.list_at(&["causes"]).iter().map(cause).collect(),
        retry_after_seconds: value.int_at(&["retryAfterSeconds"]).unwrap_or_default(),
        next: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(phase: Phase, text: &str) -> Result<Verdict, BadAnswer> {
        let text = text.replace("HEAD", r#""kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1""#);
        Verdict::read("w", phase, Reviews::V1, "u", text.as_bytes())
    }

    #[test]
    fn refusals_say_who_and_why() {
        for (status, code, message) in [
            ("", 400, "admission webhook \"w\" denied the request without explanation"),
            (r#","status":{"message":"no","code":403}"#, 403, "admission webhook \"w\" denied the request: no"),
            (r#","status":{"reason":"Bad","code":200}"#, 400, "admission webhook \"w\" denied the request: Bad"),
        ] {
            let text = format!(r#"{{HEAD,"response":{{"uid":"u","allowed":false{status}}}}}"#);
            let refusal = read(Phase::Validating, &text).unwrap().refusal.unwrap();
            assert_eq!((refusal.code, refusal.message.as_str()), (code, message));
        }
    }

    #[test]
    fn patches_are_taken_from_mutating_webhooks_only() {
        let text = r#"{HEAD,"response":{"uid":"u","allowed":true,"patchType":"JSONPatch","patch":"W10=","warnings":["x"],
            "auditAnnotations":{"k":"v"}}}"#;
        let verdict = read(Phase::Mutating, text).unwrap();
        assert_eq!(verdict.patch.as_deref(), Some(b"[]".as_slice()));
        assert_eq!((verdict.warnings, verdict.audit), (vec!["x".to_owned()], vec![("w/k".to_owned(), "v".to_owned())]));
        assert_eq!(read(Phase::Validating, text).unwrap().patch, None);
    }

    #[test]
    fn what_is_no_answer_is_told() {
        for (text, what) in [
            ("x", "invalid"),
            ("{}", "expected webhook response of admission.k8s.io/v1"),
            ("{HEAD}", "absent"),
            (r#"{HEAD,"response":{"uid":"o","allowed":true}}"#, "expected response.uid=\"u\", got \"o\""),
            (r#"{HEAD,"response":{"uid":"u","allowed":true,"patch":"W10="}}"#, "not response.patchType"),
            (r#"{HEAD,"response":{"uid":"u","allowed":true,"patchType":"JSONPatch"}}"#, "not response.patch"),
            (r#"{HEAD,"response":{"uid":"u","allowed":true,"patchType":"X","patch":"W10="}}"#, "patchType of \"X\""),
        ] {
            let error = read(Phase::Mutating, text).unwrap_err().to_string();
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
