//! From what was found to a message that fits.

use hickory_proto::op::{Edns, Message, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{Record, RecordType};
use rand::seq::SliceRandom;

/// The largest UDP answer: fragments get lost (DNS flag day 2020).
const UDP_LIMIT: u16 = 1232;
/// What a client without EDNS takes (RFC 1035 4.2.1).
const PLAIN_LIMIT: u16 = 512;

/// What an answer is made of.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) code: ResponseCode,
    pub(super) authoritative: bool,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
    pub(super) additionals: Vec<Record>,
}

impl Reply {
    /// A reply without records.
    pub(super) fn code(code: ResponseCode) -> Self {
        Self { code, authoritative: false, answers: Vec::new(), authorities: Vec::new(), additionals: Vec::new() }
    }
}

/// Why a message is not answered by looking anything up.
pub(super) enum Refusal {
    /// Not answered at all: answering answers makes loops.
    Silence,
    /// Answered with a code.
    Code(ResponseCode),
}

/// Whether a message is a question that we answer.
pub(super) fn accept(message: &Message) -> Result<(), Refusal> {
    use hickory_proto::op::MessageType;
    use hickory_proto::rr::DNSClass;
    if message.metadata.message_type != MessageType::Query {
        return Err(Refusal::Silence);
    }
    if message.metadata.op_code != OpCode::Query {
        return Err(Refusal::Code(ResponseCode::NotImp));
    }
    let [query] = message.queries.as_slice() else { return Err(Refusal::Code(ResponseCode::FormErr)) };
    if message.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return Err(Refusal::Code(ResponseCode::BADVERS));
    }
    if query.query_class() != DNSClass::IN || matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR) {
        return Err(Refusal::Code(ResponseCode::Refused));
    }
    Ok(())
}

/// The bytes that answer a question; over UDP they fit, with what does not fit left out and the flag that says so.
pub(super) fn encode(question: &Message, mut reply: Reply, udp: bool) -> Option<Vec<u8>> {
    spread(&mut reply.answers);
    let mut metadata = Metadata::response_from_request(&question.metadata);
    metadata.recursion_available = true;
    metadata.authoritative = reply.authoritative;
    metadata.response_code = reply.code;
    let mut message = Message::response(question.metadata.id, question.metadata.op_code);
    message.metadata = metadata;
    message.add_queries(question.queries.iter().cloned());
    message.answers = reply.answers;
    message.authorities = reply.authorities;
    message.additionals = reply.additionals;
    if let Some(asked) = &question.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_LIMIT);
        edns.set_dnssec_ok(asked.flags().dnssec_ok);
        edns.set_rcode_high(reply.code.high());
        message.set_edns(edns);
    }
    let limit = match (&question.edns, udp) {
        (_, false) => u16::MAX,
        (Some(edns), true) => edns.max_payload().clamp(PLAIN_LIMIT, UDP_LIMIT),
        (None, true) => PLAIN_LIMIT,
    };
    fit(message, usize::from(limit))
}

/// Addresses in random order: clients take the first. An alias stays before what it leads to.
fn spread(answers: &mut [Record]) {
    let is_address = |r: &Record| matches!(r.record_type(), RecordType::A | RecordType::AAAA);
    if let Some(first) = answers.iter().position(is_address)
        && let Some(addresses) = answers.get_mut(first..)
        && addresses.iter().all(is_address)
    {
        addresses.shuffle(&mut rand::rng());
    }
}

fn fit(mut message: Message, limit: usize) -> Option<Vec<u8>> {
    loop {
        let bytes = message.to_vec().ok()?;
        if bytes.len() <= limit {
            return Some(bytes);
        }
        if !message.additionals.is_empty() {
            // What only helps is left out without a word (RFC 2181 9).
            message.additionals.clear();
            continue;
        }
        message.metadata.truncation = true;
        if message.answers.is_empty() && message.authorities.is_empty() {
            return None;
        }
        message.authorities.clear();
        let kept = message.answers.len() * 3 / 4;
        message.answers.truncate(kept);
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;
    use hickory_proto::rr::{Name, RData};

    use super::*;

    fn question(edns: Option<u16>) -> Message {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii("a.example.").unwrap(), RecordType::A));
        if let Some(size) = edns {
            let mut edns = Edns::new();
            edns.set_max_payload(size);
            message.set_edns(edns);
        }
        message
    }

    fn many() -> Reply {
        let name = Name::from_ascii("a.example.").unwrap();
        let record = |i: u8| Record::from_rdata(name.clone(), 5, RData::A(std::net::Ipv4Addr::new(10, 0, 0, i).into()));
        let mut reply = Reply::code(ResponseCode::NoError);
        reply.answers = (0..200).map(record).collect();
        reply
    }

    #[test]
    fn an_answer_that_is_too_long_is_cut_and_says_so() {
        for (edns, limit) in [(None, 512), (Some(4096), 1232), (Some(100), 512), (Some(700), 700)] {
            let bytes = encode(&question(edns), many(), true).unwrap();
            assert!(bytes.len() <= limit, "{edns:?}: {}", bytes.len());
            let message = Message::from_vec(&bytes).unwrap();
            assert!(message.metadata.truncation && !message.answers.is_empty());
        }
        let whole = Message::from_vec(&encode(&question(None), many(), false).unwrap()).unwrap();
        assert!(!whole.metadata.truncation && whole.answers.len() == 200);
    }
}
