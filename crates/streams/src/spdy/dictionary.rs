//! The dictionary that header blocks are compressed with (SPDY/3, 2.6.10.1): words with their lengths before them, then
//! text without.

const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges \
age allow authorization cache-control connection content-base content-encoding content-language content-length \
content-location content-md5 content-range content-type date etag expect expires from host if-match if-modified-since \
if-none-match if-range if-unmodified-since last-modified location max-forwards pragma proxy-authenticate \
proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade user-agent vary via warning \
www-authenticate method get status 200 version HTTP/1.1 url public set-cookie keep-alive origin";

/// Words that hold a blank, by the word that they follow.
const WITH_BLANK: (&str, &str) = ("status", "200 OK");

const CODES: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505";
const PHRASES: &str = "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request\
401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable";
const REST: &str = "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT\
chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,\
publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

/// The dictionary's bytes.
pub(super) fn bytes() -> Vec<u8> {
    let mut out = Vec::with_capacity(1423);
    let mut after = "";
    for word in WORDS.split(' ') {
        let word = if after == WITH_BLANK.0 { WITH_BLANK.1 } else { word };
        out.extend_from_slice(&(word.len() as u32).to_be_bytes());
        out.extend_from_slice(word.as_bytes());
        after = word;
    }
    for text in [CODES, PHRASES, REST] {
        out.extend_from_slice(text.as_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn its_checksum_is_the_one_that_every_peer_names() {
        // Adler-32 of the dictionary, as it stands in the zlib header of every SPDY/3 header block.
        let (mut a, mut b) = (1u32, 0u32);
        for byte in super::bytes() {
            a = (a + u32::from(byte)) % 65521;
            b = (b + a) % 65521;
        }
        assert_eq!((super::bytes().len(), (b << 16) | a), (1423, 0xe3c6_a7c2));
    }
}
