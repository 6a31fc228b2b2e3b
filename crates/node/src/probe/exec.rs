//! A command in the container.

use super::Outcome;
use crate::cri::Cri;
use std::time::Duration;
use trireme_cri::ExecSyncRequest;
use trireme_schema::Value;

/// As much of the output is told.
const MOST: usize = 10 << 10;
/// The runtime ends the command in time; who waits for the runtime's word waits a little longer.
const SLACK: Duration = Duration::from_secs(5);

pub(super) async fn ask(cri: &Cri, id: &str, exec: &Value, timeout: Duration) -> Outcome {
    let cmd: Vec<String> = exec.list_at(&["command"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let late = format!("command timed out: {:?} timed out after {}s", cmd.join(" "), timeout.as_secs());
    let request = ExecSyncRequest { container_id: id.to_owned(), cmd, timeout: timeout.as_secs() as i64 };
    match tokio::time::timeout(timeout + SLACK, cri.runtime.clone().exec_sync(request)).await {
        Err(_) => Outcome::Failure(late),
        Ok(Err(status)) if status.code() == tonic::Code::DeadlineExceeded => Outcome::Failure(late),
        Ok(Err(status)) => {
            Outcome::Unknown(format!("rpc error: code = {:?} desc = {}", status.code(), status.message()))
        }
        Ok(Ok(answer)) => {
            let answer = answer.into_inner();
            if answer.exit_code == 0 {
                return Outcome::Success;
            }
            let mut said = [answer.stdout, answer.stderr].concat();
            said.truncate(MOST);
            Outcome::Failure(String::from_utf8_lossy(&said).into_owned())
        }
    }
}
