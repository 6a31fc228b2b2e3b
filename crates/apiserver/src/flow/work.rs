//! How much work a request is: its seats.

use crate::request::{Query, RequestInfo};
use crate::server::ApiServer;

/// Bytes of objects that are read for a seat.
const BYTES_PER_SEAT: usize = 100_000;
/// A list takes no more seats than this.
const MOST: u32 = 100;
/// Objects that are looked at to guess the size of all.
const SAMPLE: usize = 8;

/// The seats of a request at a level with so many of its own: lists, and watches that begin with one, by the bytes that
/// they read; all others one.
pub(super) fn seats(server: &ApiServer, info: &RequestInfo, query: &Query, nominal: u32) -> u32 {
    let lists = match info.verb.as_str() {
        "list" => true,
        "watch" => {
            let from = query.get("resourceVersion");
            query.flag("sendInitialEvents") || from.is_empty() || from == "0"
        }
        _ => false,
    };
    if !lists || !info.name.is_empty() {
        return 1;
    }
    let Some(served) = server.catalogue.find(&info.group, &info.version, &info.resource) else { return 1 };
    let snapshot = server.store.topic(&served.topic).snapshot();
    let bytes: usize = snapshot.keys.values().take(SAMPLE).map(|r| r.value.len()).sum();
    let size = bytes / snapshot.keys.len().clamp(1, SAMPLE);
    let limit = query.get("limit").parse::<usize>().ok().filter(|n| *n > 0);
    estimate(snapshot.keys.len(), size, limit, nominal)
}

fn estimate(objects: usize, size: usize, limit: Option<usize>, nominal: u32) -> u32 {
    let read = limit.map_or(objects, |n| n.min(objects)).saturating_mul(size);
    let seats = u32::try_from(read.div_ceil(BYTES_PER_SEAT)).unwrap_or(MOST);
    // No request takes more than a part of its level.
    let most = (nominal * 3 / 20).clamp(1, MOST);
    seats.clamp(1, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_take_seats_by_what_they_read() {
        assert_eq!(estimate(0, 0, None, 100), 1);
        assert_eq!(estimate(500, 1000, None, 100), 5);
        assert_eq!(estimate(500, 1000, Some(100), 100), 1);
        assert_eq!(estimate(1_000_000, 1000, None, 100), 15);
        assert_eq!(estimate(1_000_000, 1000, None, 4), 1);
    }
}
