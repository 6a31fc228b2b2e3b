//! The gRPC health protocol (grpc.health.v1).

use super::{Outcome, authority};
use std::time::Duration;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const STATES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
const SERVING: i32 = 1;

pub(super) async fn ask(host: &str, port: u16, service: &str, timeout: Duration) -> Outcome {
    let address = authority(host, port);
    let seconds = timeout.as_secs();
    let Ok(endpoint) = Endpoint::from_shared(format!("http://{address}")) else {
        return Outcome::Unknown(format!("{address:?} is no address"));
    };
    let endpoint = match endpoint.user_agent(super::http::USER_AGENT) {
        Ok(endpoint) => endpoint,
        Err(error) => return Outcome::Unknown(error.to_string()),
    };
    let deadline = tokio::time::Instant::now() + timeout;
    let channel = match tokio::time::timeout_at(deadline, endpoint.connect()).await {
        Ok(Ok(channel)) => channel,
        Ok(Err(_)) | Err(_) => {
            return Outcome::Failure(format!(
                "timeout: failed to connect service {address:?} within {seconds}s: context deadline exceeded"
            ));
        }
    };
    let call = async {
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
        let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
        let request = tonic::Request::new(HealthCheckRequest { service: service.to_owned() });
        let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
        client.unary(request, path, codec).await.map(|answer| answer.into_inner().status)
    };
    match tokio::time::timeout_at(deadline, call).await {
        Err(_) => Outcome::Failure(format!("timeout: health rpc did not complete within {seconds}s")),
        Ok(result) => judge(result, seconds),
    }
}

fn judge(result: Result<i32, Status>, seconds: u64) -> Outcome {
    match result {
        Ok(SERVING) => Outcome::Success,
        Ok(state) => {
            let name = usize::try_from(state).ok().and_then(|i| STATES.get(i)).copied().unwrap_or("UNKNOWN");
            Outcome::Failure(format!("service unhealthy (responded with {name:?})"))
        }
        Err(status) => Outcome::Failure(match status.code() {
            Code::Unimplemented => format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
                status.message()
            ),
            Code::DeadlineExceeded => format!("timeout: health rpc did not complete within {seconds}s"),
            _ => format!("error: health rpc probe failed: {}", status.message()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_serving_is_well() {
        assert_eq!(judge(Ok(1), 1), Outcome::Success);
        let want = Outcome::Failure("service unhealthy (responded with \"NOT_SERVING\")".into());
        assert_eq!(judge(Ok(2), 1), want);
        assert!(matches!(judge(Err(Status::not_found("no such service")), 1), Outcome::Failure(_)));
    }
}
