//! Large answers are compressed for those who take it (KEP-156: gzip from 128 KiB on).

use crate::answer::{self, Body};
use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::StreamExt;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use std::io::Write;

/// Smaller ones are sent as they are.
const LEAST: usize = 128 << 10;

/// Whether a client takes gzip.
pub(crate) fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|coding| {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim() == "gzip" && !matches!(parameters.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
    })
}

/// An answer, compressed if it is large.
pub(crate) async fn gzip(response: Response<Body>) -> Response<Body> {
    let small = response.body().size_hint().exact().is_some_and(|size| size <= LEAST as u64);
    if small || response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    let (mut parts, mut body) = response.into_parts();
    let mut begin = BytesMut::new();
    while begin.len() <= LEAST {
        match body.frame().await {
            Some(Ok(frame)) => begin.extend_from_slice(&frame.into_data().unwrap_or_default()),
            // What begins with a break is passed on as that.
            Some(Err(broken)) => {
                let pieces = [Ok(begin.freeze()), Err(broken)];
                return Response::from_parts(parts, answer::breakable(futures::stream::iter(pieces).boxed()));
            }
            None => return Response::from_parts(parts, answer::whole(begin)),
        }
    }
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    parts.headers.remove(header::CONTENT_LENGTH);
    let state = (Some(GzEncoder::new(Vec::new(), Compression::fast())), Some(begin.freeze()), body);
    let pieces = futures::stream::unfold(state, |(mut encoder, mut begin, mut body)| async move {
        loop {
            // What has ended is not asked again.
            encoder.as_ref()?;
            let piece = match begin.take() {
                Some(bytes) => Some(bytes),
                None => match body.frame().await {
                    Some(Ok(frame)) => Some(frame.into_data().unwrap_or_default()),
                    Some(Err(broken)) => return Some((Err(broken), (None, None, body))),
                    None => None,
                },
            };
            let Some(piece) = piece else {
                // Writing to memory does not fail.
                let rest = encoder.take()?.finish().unwrap_or_default();
                return Some((Ok(Bytes::from(rest)), (None, None, body)));
            };
            let writer = encoder.as_mut()?;
            writer.write_all(&piece).ok()?;
            let out = std::mem::take(writer.get_mut());
            if !out.is_empty() {
                return Some((Ok(Bytes::from(out)), (encoder, begin, body)));
            }
        }
    });
    Response::from_parts(parts, answer::breakable(pieces.boxed()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[tokio::test]
    async fn only_large_answers_are_compressed() {
        let small = gzip(answer::typed(200, "application/json", answer::whole("{}"))).await;
        assert!(!small.headers().contains_key(header::CONTENT_ENCODING));
        assert_eq!(small.into_body().collect().await.unwrap().to_bytes(), "{}");

        let text = "0123456789abcdef".repeat(LEAST / 8);
        let pieces: Vec<Bytes> = text.as_bytes().chunks(10_000).map(Bytes::copy_from_slice).collect();
        // As lists come: a stream that must not be asked again after its end.
        let once = futures::stream::unfold(pieces.into_iter(), |mut left| async move { Some((left.next()?, left)) });
        let body = answer::streamed(once.boxed());
        let large = gzip(answer::typed(200, "application/json", body)).await;
        assert_eq!(large.headers()[header::CONTENT_ENCODING], "gzip");
        let (mut large, mut bytes) = (large.into_body(), Vec::new());
        while let Some(frame) = large.frame().await {
            bytes.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
        let mut read = String::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut read).unwrap();
        assert_eq!(read, text);
        assert!(bytes.len() < text.len() / 10);
    }

    #[test]
    fn a_quality_of_nothing_is_a_refusal() {
        for (value, takes) in [("gzip", true), ("deflate, gzip;q=0.5", true), ("gzip;q=0", false), ("br", false)] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            assert_eq!(takes_gzip(&headers), takes, "{value}");
        }
    }
}
