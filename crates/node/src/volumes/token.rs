//! Tokens of service accounts, renewed before they end.

use crate::calls;
use std::time::Duration;
use tokio::time::Instant;
use trireme_client::Client;
use trireme_schema::Value;

/// A token is renewed after this share of its life, or after a day.
const SHARE: u32 = 80;
const LONGEST: Duration = Duration::from_secs(86_400);

/// A token that was issued.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) text: String,
    renew: Instant,
}

/// How long a token is used.
fn use_for(life: Duration) -> Duration {
    (life * SHARE / 100).min(LONGEST)
}

impl Token {
    /// How long it need not be renewed.
    pub(super) fn fresh_for(&self) -> Duration {
        self.renew.saturating_duration_since(Instant::now())
    }

    /// Asks for a token as a projected volume's source says.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn issue(client: &Client, pod: &Value, source: &Value) -> Result<Self, String> {
        let meta = |name| pod.str_at(&["metadata", name]);
        let account = match pod.str_at(&["spec", "serviceAccountName"]) {
            "" => "default",
            name => name,
        };
        let seconds = source.int_at(&["expirationSeconds"]).unwrap_or(3600);
        let mut ask = Value::object();
        ask.set_at(&["apiVersion"], "authentication.k8s.io/v1");
        ask.set_at(&["kind"], "TokenRequest");
        if !source.str_at(&["audience"]).is_empty() {
            ask.set_at(&["spec", "audiences"], vec![source.str_at(&["audience"])]);
        }
        ask.set_at(&["spec", "expirationSeconds"], seconds);
        for (key, value) in [("apiVersion", "v1"), ("kind", "Pod"), ("name", meta("name")), ("uid", meta("uid"))] {
            ask.set_at(&["spec", "boundObjectRef", key], value);
        }
        let path = format!("/api/v1/namespaces/{}/serviceaccounts/{account}/token", meta("namespace"));
        let answer = calls::send(client, http::Method::POST, &path, calls::JSON, &ask).await;
        let answer = answer.map_err(|e| format!("failed to fetch token: {e}"))?;
        // The server may give a longer life than asked for; its own word does not count for more than the request.
        let life = Duration::from_secs(seconds.max(0) as u64);
        Ok(Self { text: answer.str_at(&["status", "token"]).to_owned(), renew: Instant::now() + use_for(life) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_renewed_at_eighty_percent_of_their_life() {
        assert_eq!(use_for(Duration::from_secs(3600)), Duration::from_secs(2880));
        assert_eq!(use_for(Duration::from_secs(10 * 86_400)), Duration::from_secs(86_400));
    }
}
