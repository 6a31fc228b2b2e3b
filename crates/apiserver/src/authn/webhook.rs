//! Tokens that a service elsewhere knows (`--authentication-token-webhook-config-file`).

use crate::outbound::Outbound;
use crate::remembered::Remembered;
use crate::reviews;
use crate::user::User;
use aws_lc_rs::digest::{SHA256, digest};
use std::time::Duration;
use trireme_schema::{Map, Value, json};

/// Answers are kept for this long (upstream's default).
const KEPT: Duration = Duration::from_secs(120);
/// Answers that are kept at most.
const MOST: usize = 4096;
/// How long the service may take, and how often it is asked.
const WITHIN: Duration = Duration::from_secs(30);
const TRIES: u32 = 3;
const BACK_OFF: Duration = Duration::from_millis(500);

type Answer = Option<(User, Vec<String>)>;

/// A service that reviews tokens.
pub(super) struct Webhook {
    service: Outbound,
    /// By a digest of token and audiences, so that no token is kept.
    answers: Remembered<Vec<u8>, Answer>,
}

impl Webhook {
    pub(super) fn new(service: Outbound) -> Self {
        Self { service, answers: Remembered::new(MOST) }
    }

    /// The user of a token, with the audiences that it is for; nobody when the service knows none or cannot be reached.
    pub(super) async fn user(&self, token: &str, audiences: &[String]) -> Answer {
        let key = digest(&SHA256, format!("{token}\n{}", audiences.join("\n")).as_bytes()).as_ref().to_vec();
        if let Some(answer) = self.answers.get(&key) {
            return answer;
        }
        let answer = self.ask(token, audiences).await?;
        self.answers.keep(key, answer.clone(), KEPT);
        answer
    }

    /// What the service says; `None` when it says nothing.
    async fn ask(&self, token: &str, audiences: &[String]) -> Option<Answer> {
        let mut review = Value::object();
        review.set_at(&["apiVersion"], "authentication.k8s.io/v1");
        review.set_at(&["kind"], "TokenReview");
        let mut spec = Map::from_iter([("token", token)]);
        if !audiences.is_empty() {
            spec.insert("audiences", audiences.to_vec());
        }
        review.set_at(&["spec"], spec);
        let body = bytes::Bytes::from(json::to_vec(&review));
        for attempt in 1..=TRIES {
            match self.service.post(body.clone(), WITHIN).await {
                Ok(answer) => return Some(read(&answer, audiences)),
                Err(error) if attempt == TRIES => tracing::warn!(%error, "a token cannot be reviewed"),
                Err(_) => tokio::time::sleep(BACK_OFF * attempt).await,
            }
        }
        None
    }
}

fn read(review: &Value, audiences: &[String]) -> Answer {
    if !review.bool_at(&["status", "authenticated"]) {
        return None;
    }
    let mut user = reviews::user_of(review.at(&["status", "user"])?);
    if user.name.is_empty() {
        return None;
    }
    if !user.is_in("system:authenticated") {
        user.groups.push("system:authenticated".into());
    }
    let told: Vec<String> =
        review.list_at(&["status", "audiences"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    // A service that does not know of audiences says none: its tokens are for this server alone.
    let meant: Vec<String> = audiences.iter().filter(|a| told.contains(a)).cloned().collect();
    (audiences.is_empty() || !meant.is_empty()).then_some((user, meant))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read() {
        let read = |text: &str, audiences: &[&str]| {
            let audiences: Vec<String> = audiences.iter().map(|a| (*a).to_owned()).collect();
            read(&json::parse(text.as_bytes()).unwrap(), &audiences)
        };
        let yes = r#"{"status":{"authenticated":true,"user":{"username":"u","groups":["g"]},"audiences":["a"]}}"#;
        let (user, _) = read(yes, &[]).unwrap();
        assert_eq!((user.name.as_str(), user.groups.len()), ("u", 2));
        assert!(read(yes, &["a"]).is_some() && read(yes, &["b"]).is_none());
        assert!(read(r#"{"status":{"authenticated":false,"user":{"username":"u"}}}"#, &[]).is_none());
        assert!(read(r#"{"status":{"authenticated":true}}"#, &[]).is_none());
    }
}
