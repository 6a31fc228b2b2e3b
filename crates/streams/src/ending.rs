//! What a process came to, in words.

use crate::protocol::Ending;
use crate::session::Outcome;
use serde_json::json;

/// What is sent on the error channel; nothing where only failures are told and there is none.
pub(crate) fn words(ending: Ending, outcome: &Outcome) -> Vec<u8> {
    match (ending, outcome) {
        (Ending::Text, Outcome::Exit(0)) => Vec::new(),
        (Ending::Text, _) => message(outcome).into_bytes(),
        (Ending::Json, _) => status(outcome).into_bytes(),
    }
}

fn message(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exit(code) => format!("command terminated with non-zero exit code: exit status {code}"),
        Outcome::Failed(why) => format!("Internal error occurred: {why}"),
    }
}

fn status(outcome: &Outcome) -> String {
    let status = match outcome {
        Outcome::Exit(0) => json!({"metadata": {}, "status": "Success"}),
        Outcome::Exit(code) => json!({
            "metadata": {},
            "status": "Failure",
            "message": message(outcome),
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Outcome::Failed(why) => json!({
            "metadata": {},
            "status": "Failure",
            "message": message(outcome),
            "reason": "InternalError",
            "details": {"causes": [{"message": why}]},
            "code": 500,
        }),
    };
    status.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_process_is_told_as_kubectl_reads_it() {
        let read = |outcome| serde_json::from_slice::<serde_json::Value>(&words(Ending::Json, &outcome)).unwrap();
        assert_eq!(read(Outcome::Exit(0))["status"], "Success");
        let failed = read(Outcome::Exit(3));
        assert_eq!(failed["reason"], "NonZeroExitCode");
        assert_eq!(failed["details"]["causes"][0], json!({"reason": "ExitCode", "message": "3"}));
    }

    #[test]
    fn an_error_with_quotes_and_other_scripts_is_json() {
        let why = "a\"b\u{1}'é";
        let words = words(Ending::Json, &Outcome::Failed(why.into()));
        let read: serde_json::Value = serde_json::from_slice(&words).unwrap();
        assert_eq!(read["message"], format!("Internal error occurred: {why}"));
        assert_eq!(read["details"]["causes"][0]["message"], why);
    }

    #[test]
    fn older_clients_hear_of_failures_alone() {
        let text = |outcome| String::from_utf8(words(Ending::Text, &outcome)).unwrap();
        assert_eq!(text(Outcome::Exit(0)), "");
        assert_eq!(text(Outcome::Exit(3)), "command terminated with non-zero exit code: exit status 3");
        assert_eq!(text(Outcome::Failed("gone".into())), "Internal error occurred: gone");
    }
}
