//! Answers of upstream servers, kept for a while.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use parking_lot::Mutex;

use super::response::Reply;

/// Answers kept at most.
const CAPACITY: usize = 10_000;
/// Longer lives are cut to this: what changes upstream shows soon.
const LONGEST: u32 = 30;

/// A question: name in lower case, type, and whether signatures are wanted.
pub(super) type Question = (Name, RecordType, bool);

struct Entry {
    reply: Reply,
    stored: Instant,
    expires: Instant,
}

/// A bounded cache.
#[derive(Default)]
pub(super) struct Cache {
    entries: Mutex<HashMap<Question, Entry>>,
}

/// How long a reply may be kept: the shortest life of its records; without any, what the authority says about absence
/// (RFC 2308 5). Failures are not kept.
fn lifetime(reply: &Reply) -> u32 {
    if !matches!(reply.code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return 0;
    }
    let shortest = if reply.answers.is_empty() {
        reply.authorities.iter().find_map(|record| match &record.data {
            RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
            _ => None,
        })
    } else {
        reply.answers.iter().map(|record| record.ttl).min()
    };
    shortest.unwrap_or(0).min(LONGEST)
}

impl Cache {
    /// A reply that is still good, its records aged.
    pub(super) fn get(&self, question: &Question, now: Instant) -> Option<Reply> {
        let entries = self.entries.lock();
        let entry = entries.get(question).filter(|entry| entry.expires > now)?;
        let mut reply = entry.reply.clone();
        let age = u32::try_from(now.saturating_duration_since(entry.stored).as_secs()).unwrap_or(u32::MAX);
        let aged = |records: &mut Vec<Record>| {
            for record in records {
                record.ttl = record.ttl.saturating_sub(age);
            }
        };
        aged(&mut reply.answers);
        aged(&mut reply.authorities);
        aged(&mut reply.additionals);
        Some(reply)
    }

    /// Keeps a reply.
    pub(super) fn put(&self, question: Question, reply: &Reply, now: Instant) {
        let lifetime = lifetime(reply);
        if lifetime == 0 {
            return;
        }
        let mut entries = self.entries.lock();
        if entries.len() >= CAPACITY {
            entries.retain(|_, entry| entry.expires > now);
        }
        if entries.len() >= CAPACITY {
            // All are good still: any tenth makes room, and a popular one is back with its next question.
            let mut place = 0usize;
            entries.retain(|_, _| {
                place += 1;
                !place.is_multiple_of(10)
            });
        }
        let expires = now + Duration::from_secs(u64::from(lifetime));
        entries.insert(question, Entry { reply: reply.clone(), stored: now, expires });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(number: usize) -> Question {
        (Name::from_ascii(format!("n{number}.example.")).unwrap(), RecordType::A, false)
    }

    fn reply(ttl: u32) -> Reply {
        let name = question(0).0;
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        let answers = vec![Record::from_rdata(name, ttl, RData::A(address))];
        Reply { answers, ..Reply::code(ResponseCode::NoError) }
    }

    #[test]
    fn replies_age_and_expire() {
        let (cache, now) = (Cache::default(), Instant::now());
        cache.put(question(1), &reply(10), now);
        let later = cache.get(&question(1), now + Duration::from_secs(4)).unwrap();
        assert_eq!(later.answers[0].ttl, 6);
        assert!(cache.get(&question(1), now + Duration::from_secs(10)).is_none());
        cache.put(question(2), &reply(86400), now);
        assert!(cache.get(&question(2), now + Duration::from_secs(31)).is_none());
        cache.put(question(3), &Reply::code(ResponseCode::ServFail), now);
        assert!(cache.get(&question(3), now).is_none());
    }

    #[test]
    fn the_cache_is_bounded() {
        let (cache, now) = (Cache::default(), Instant::now());
        for number in 0..CAPACITY + 10 {
            cache.put(question(number), &reply(20), now);
        }
        assert!(cache.entries.lock().len() <= CAPACITY);
    }
}
