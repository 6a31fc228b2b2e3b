//! `ConversionReview` (apiextensions.k8s.io/v1): objects of a custom resource in another version.

use trireme_schema::{Map, Value, json};

const VERSION: &str = "apiextensions.k8s.io/v1";

/// Why a conversion webhook's answer cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    /// It is no `ConversionReview` to what was asked.
    #[error("invalid response: {0}")]
    Invalid(String),
    /// The webhook says that it failed.
    #[error("{0}")]
    Failed(String),
}

/// The request that asks for `objects` in `version` (`group/version`).
pub fn request(uid: &str, version: &str, objects: Vec<Value>) -> Vec<u8> {
    let mut request = Map::new();
    request.insert("uid", uid);
    request.insert("desiredAPIVersion", version);
    request.insert("objects", objects);
    let mut review = Map::from_iter([("kind", "ConversionReview"), ("apiVersion", VERSION)]);
    review.insert("request", request);
    json::to_vec(&Value::Object(review))
}

/// The converted objects: as many as were sent, in their order, all of the version that was asked for.
///
/// # Errors
/// When the answer is none, or the webhook says that it failed.
pub fn answer(uid: &str, version: &str, sent: usize, bytes: &[u8]) -> Result<Vec<Value>, BadAnswer> {
    let invalid = |what: String| BadAnswer::Invalid(what);
    let review = json::parse(bytes).map_err(|e| invalid(e.to_string()))?;
    if review.str_at(&["kind"]) != "ConversionReview" || review.str_at(&["apiVersion"]) != VERSION {
        return Err(invalid(format!(
            "expected {VERSION}, Kind=ConversionReview, got {}, Kind={}",
            review.str_at(&["apiVersion"]),
            review.str_at(&["kind"])
        )));
    }
    let Some(response) = review.get("response") else { return Err(invalid("no response provided".into())) };
    if response.str_at(&["uid"]) != uid {
        return Err(invalid(format!("expected response.uid={uid:?}, got {:?}", response.str_at(&["uid"]))));
    }
    if response.str_at(&["result", "status"]) != "Success" {
        let message = response.str_at(&["result", "message"]);
        return Err(BadAnswer::Failed(
            if message.is_empty() { "response.result.status was not \"Success\"" } else { message }.to_owned(),
        ));
    }
    let objects = response.list_at(&["convertedObjects"]);
    if objects.len() != sent {
        return Err(invalid(format!("expected {sent} converted objects, got {}", objects.len())));
    }
    match objects.iter().find(|o| o.str_at(&["apiVersion"]) != version) {
        Some(other) => {
            Err(invalid(format!("invalid groupVersion (expected {version}, got {})", other.str_at(&["apiVersion"]))))
        }
        None => Ok(objects.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(text: &str) -> Result<Vec<Value>, BadAnswer> {
        let text = text.replace("HEAD", r#""kind":"ConversionReview","apiVersion":"apiextensions.k8s.io/v1""#);
        answer("u", "g/v2", 1, text.as_bytes())
    }

    #[test]
    fn only_what_was_asked_is_taken() {
        let good =
            r#"{HEAD,"response":{"uid":"u","result":{"status":"Success"},"convertedObjects":[{"apiVersion":"g/v2"}]}}"#;
        assert_eq!(answered(good).unwrap().len(), 1);
        for bad in [
            "x",
            "{}",
            "{HEAD}",
            r#"{HEAD,"response":{"uid":"o"}}"#,
            r#"{HEAD,"response":{"uid":"u","result":{"status":"Success"},"convertedObjects":[]}}"#,
            r#"{HEAD,"response":{"uid":"u","result":{"status":"Success"},"convertedObjects":[{"apiVersion":"g/v1"}]}}"#,
        ] {
            assert!(matches!(answered(bad), Err(BadAnswer::Invalid(_))), "{bad}");
        }
        let failed = r#"{HEAD,"response":{"uid":"u","result":{"status":"Failed","message":"no"}}}"#;
        assert_eq!(answered(failed), Err(BadAnswer::Failed("no".into())));
    }

    #[test]
    fn the_request_holds_the_objects() {
        let text = String::from_utf8(request("u", "g/v2", vec![Value::object()])).unwrap();
        assert!(text.contains(r#""desiredAPIVersion":"g/v2""#) && text.contains(r#""objects":[{}]"#), "{text}");
    }
}
