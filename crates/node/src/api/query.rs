//! Parameters of a request.

use http::Request;

/// Parameters in their order, decoded.
pub(super) fn pairs<B>(request: &Request<B>) -> Vec<(String, String)> {
    let pairs = request.uri().query().unwrap_or_default().split('&').filter_map(|p| p.split_once('='));
    let decoded = |v: &str| percent_encoding::percent_decode_str(&v.replace('+', " ")).decode_utf8_lossy().into_owned();
    pairs.map(|(k, v)| (k.to_owned(), decoded(v))).collect()
}

/// Whether a parameter's value says yes.
pub(super) fn is_yes(value: &str) -> bool {
    value == "1" || value == "true"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_keep_their_order() {
        let request =
            Request::builder().uri("/exec?command=sh&command=-c&command=echo%20a+b%2Bc&tty=1").body(()).unwrap();
        let wanted = [("command", "sh"), ("command", "-c"), ("command", "echo a b+c"), ("tty", "1")];
        let wanted = wanted.map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(pairs(&request), wanted);
    }
}
