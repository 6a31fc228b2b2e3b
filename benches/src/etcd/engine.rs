//! The engine.

use super::proto::*;
use crate::Failure;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, IntoRequest, IntoStreamingRequest, Status};
use tonic_prost::ProstCodec;
use trireme_store::{
    Batch, Change, CommitError, Committed, Engine, Op, Page, Range, ReadError, Record, Template, TooOld, Txn,
};

/// A key space below a prefix of an etcd cluster.
#[derive(Clone)]
pub struct Etcd {
    channel: Channel,
    root: Arc<str>,
}

impl Etcd {
    pub async fn connect(url: &str, root: &str) -> Result<Self, Failure> {
        let channel = Channel::from_shared(url.to_owned())?.connect_timeout(Duration::from_secs(5)).connect().await?;
        Ok(Self { channel, root: root.into() })
    }

    async fn call<Q, A>(&self, method: &'static str, request: Q) -> Result<A, Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
        let path = http::uri::PathAndQuery::from_static(method);
        let answer = grpc.unary(request.into_request(), path, ProstCodec::default()).await?;
        Ok(answer.into_inner())
    }

    fn key(&self, key: &str) -> Vec<u8> {
        format!("{}{key}", self.root).into_bytes()
    }

    /// All keys that begin with a prefix, as etcd says it: up to the prefix with its last byte raised.
    fn prefix(&self, prefix: &str) -> (Vec<u8>, Vec<u8>) {
        let from = self.key(prefix);
        let mut until = from.clone();
        if let Some(last) = until.last_mut() {
            *last += 1;
        }
        (from, until)
    }

    fn record(&self, kv: &KeyValue, revision: i64) -> Arc<Record> {
        let key = String::from_utf8_lossy(&kv.key);
        let key = key.strip_prefix(&*self.root).unwrap_or(&key);
        let value = unpack(&kv.value).fill(revision);
        Arc::new(Record::new(key.into(), value, kv.create_revision, revision, kv.version))
    }

    async fn lease(&self, at: u64) -> Result<i64, Status> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let request = LeaseGrantRequest { ttl: at.saturating_sub(now).max(1) as i64 };
        self.call::<_, LeaseGrantResponse>("/etcdserverpb.Lease/LeaseGrant", request).await.map(|l| l.id)
    }

    async fn request(&self, op: &Op) -> Result<RequestOp, Status> {
        let request = match op {
            Op::Put { key, value, expires } => {
                let lease = match expires {
                    Some(at) => self.lease(*at).await?,
                    None => 0,
                };
                Request::Put(PutRequest { key: self.key(key), value: pack(value), lease, prev_kv: true })
            }
            Op::Delete { key, .. } => Request::Delete(DeleteRangeRequest { key: self.key(key), prev_kv: true }),
        };
        Ok(RequestOp { request: Some(request) })
    }

    /// What an operation left behind.
    fn outcome(&self, op: &Op, answer: Option<Response>, revision: i64) -> Option<Arc<Record>> {
        match (op, answer) {
            (Op::Put { key, value, .. }, Some(Response::Put(put))) => {
                let (create, version) = put.prev_kv.map_or((revision, 0), |old| (old.create_revision, old.version));
                let value = value.fill(revision);
                Some(Arc::new(Record::new(key.clone(), value, create, revision, version + 1)))
            }
            (_, Some(Response::Delete(gone))) => gone.prev_kvs.first().map(|old| self.record(old, revision)),
            _ => None,
        }
    }

    async fn transact(&self, txn: Txn) -> Result<Committed, CommitError> {
        let unavailable = |status: Status| CommitError::Unavailable(status.message().to_owned());
        let mut request = TxnRequest::default();
        for compare in &txn.compare {
            let key = self.key(&compare.key);
            let range = RangeRequest { key: key.clone(), ..RangeRequest::default() };
            request.compare.push(Compare { result: 0, target: 2, key, mod_revision: Some(compare.mod_revision) });
            request.failure.push(RequestOp { request: Some(Request::Range(range)) });
        }
        for op in &txn.ops {
            request.success.push(self.request(op).await.map_err(unavailable)?);
        }
        let answer: TxnResponse = self.call("/etcdserverpb.KV/Txn", request).await.map_err(unavailable)?;
        let revision = answer.header.map_or(0, |h| h.revision);
        let answers = answer.responses.into_iter().map(|r| r.response);
        if answer.succeeded {
            let records = txn.ops.iter().zip(answers).map(|(op, answer)| self.outcome(op, answer, revision)).collect();
            return Ok(Committed { revision, records });
        }
        for (compare, answer) in txn.compare.iter().zip(answers) {
            let Some(Response::Range(found)) = answer else { continue };
            let current = found.kvs.first().map(|kv| self.record(kv, kv.mod_revision));
            if current.as_ref().map_or(0, |r| r.mod_revision) != compare.mod_revision {
                return Err(CommitError::Conflict { key: compare.key.to_string(), current });
            }
        }
        Err(CommitError::Unavailable("etcd refused a transaction and does not say why".into()))
    }

    async fn events(&self, after: i64) -> Result<tonic::Streaming<WatchResponse>, Status> {
        let (key, range_end) = self.prefix("");
        let create = WatchCreateRequest { key, range_end, start_revision: after + 1, prev_kv: true };
        let requests = futures::stream::iter([WatchRequest { create: Some(create) }]).chain(futures::stream::pending());
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
        let path = http::uri::PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        let answer = grpc
            .streaming(requests.into_streaming_request(), path, ProstCodec::<WatchRequest, WatchResponse>::default())
            .await?;
        Ok(answer.into_inner())
    }

    fn batch(&self, answer: WatchResponse, after: i64) -> Result<Batch, ReadError> {
        if answer.compact_revision > 0 {
            return Err(ReadError::TooOld(TooOld { asked: after, oldest: answer.compact_revision }));
        }
        if answer.canceled {
            return Err(ReadError::Unavailable("etcd ended the watch".into()));
        }
        let mut revision = 0;
        let events = answer.events.iter().filter_map(|event| {
            let kv = event.kv.as_ref()?;
            revision = kv.mod_revision;
            let previous = event.prev_kv.as_ref().map(|old| self.record(old, old.mod_revision));
            let change = match (event.kind, &event.prev_kv) {
                (1, Some(last)) => Change::Delete(self.record(last, revision)),
                (1, None) => Change::Delete(self.record(kv, revision)),
                _ => Change::Put(self.record(kv, revision)),
            };
            Some(Arc::new(trireme_store::Event::new(revision, change, previous)))
        });
        let events = events.collect();
        Ok(Batch { events, revision: revision.max(after) })
    }
}

impl Engine for Etcd {
    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Committed, CommitError>> {
        self.transact(txn).boxed()
    }

    fn range(&self, range: Range) -> BoxFuture<'_, Result<Page, ReadError>> {
        async move {
            let (mut key, range_end) = self.prefix(&range.prefix);
            if let Some(after) = &range.after {
                key = self.key(after);
                key.push(0);
            }
            let request = RangeRequest { key, range_end, limit: range.limit as i64, revision: range.revision };
            let answer: RangeResponse = self.call("/etcdserverpb.KV/Range", request).await.map_err(|status| {
                if status.code() == Code::OutOfRange {
                    return ReadError::TooOld(TooOld { asked: range.revision, oldest: range.revision + 1 });
                }
                ReadError::Unavailable(status.message().to_owned())
            })?;
            let revision = match range.revision {
                0 => answer.header.map_or(0, |h| h.revision),
                asked => asked,
            };
            let records = answer.kvs.iter().map(|kv| self.record(kv, kv.mod_revision)).collect();
            Ok(Page { records, revision, more: answer.more })
        }
        .boxed()
    }

    fn watch(&self, after: i64) -> BoxStream<'static, Result<Batch, ReadError>> {
        let etcd = self.clone();
        let unavailable = |status: Status| ReadError::Unavailable(status.message().to_owned());
        futures::stream::once(async move {
            match etcd.events(after).await {
                Err(status) => futures::stream::iter([Err(unavailable(status))]).boxed(),
                Ok(answers) => answers
                    .scan(after, move |seen, answer| {
                        let batch = answer.map_err(unavailable).and_then(|answer| etcd.batch(answer, *seen));
                        *seen = batch.as_ref().map_or(*seen, |b| b.revision);
                        futures::future::ready(Some(batch))
                    })
                    .boxed(),
            }
        })
        .flatten()
        .boxed()
    }

    fn compact(&self, revision: i64) -> BoxFuture<'_, Result<(), ReadError>> {
        async move {
            let done = self.call::<_, CompactionResponse>("/etcdserverpb.KV/Compact", CompactionRequest { revision });
            done.await.map(drop).map_err(|status| ReadError::Unavailable(status.message().to_owned()))
        }
        .boxed()
    }
}

/// A value as it lies in etcd: where its hole is (0: nowhere), then its bytes.
fn pack(value: &Template) -> Vec<u8> {
    let (before, after) = value.parts();
    let hole = if value.has_hole() { before.len() as u32 + 1 } else { 0 };
    [&hole.to_le_bytes()[..], before, after].concat()
}

fn unpack(stored: &Bytes) -> Template {
    let Some(hole) = stored.first_chunk::<4>() else { return Template::plain(stored.clone()) };
    let value = stored.slice(4..);
    match u32::from_le_bytes(*hole) {
        0 => Template::plain(value),
        hole => Template::with_hole(value, hole as usize - 1),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test fails loudly

    use super::super::Server;
    use super::*;
    use trireme_store::Store;

    #[tokio::test]
    async fn a_store_stands_on_etcd_without_change() {
        let dir = tempfile::tempdir().unwrap();
        let server = match Server::start(dir.path()) {
            Ok(server) => server,
            Err(error) => return crate::say(&format!("skipped: {error}")),
        };
        let etcd = Arc::new(Etcd::connect(server.url(), "/t/").await.unwrap());
        let store = Store::over(etcd.clone()).await.unwrap();
        let first = store.commit(Txn::create("a/x", Template::with_hole("v", 1))).await.unwrap();
        let filled = format!("v{}", first.revision);
        assert_eq!(first.records[0].as_ref().unwrap().value, filled);
        assert_eq!(store.get("a/x").unwrap().value, filled);
        let Err(CommitError::Conflict { current, .. }) = store.commit(Txn::create("a/x", Template::plain("2"))).await
        else {
            panic!("must conflict")
        };
        assert_eq!(current.unwrap().value, filled);
        let mut watch = store.topic("a").watch("a/", first.revision).unwrap();
        let update = Txn::update("a/x", first.revision, Template::with_hole("w", 1));
        let second = store.commit(update).await.unwrap();
        let record = store.get("a/x").unwrap();
        assert_eq!((record.version, record.create_revision), (2, first.revision));
        let gone = store.commit(Txn::delete("a/x", second.revision, None)).await.unwrap();
        assert!(store.get("a/x").is_none());
        assert!(matches!(&watch.next().await.unwrap().change, Change::Put(r) if r.mod_revision == second.revision));
        let event = watch.next().await.unwrap();
        assert!(matches!(&event.change, Change::Delete(r) if r.mod_revision == gone.revision));
        assert_eq!(event.previous.as_ref().unwrap().mod_revision, second.revision);
        // Another store on the same cluster sees it, and compaction ends old reads.
        store.commit(Txn::create("a/y", Template::plain("1"))).await.unwrap();
        let other = Store::over(etcd.clone()).await.unwrap();
        assert_eq!(other.get("a/y").unwrap().value, "1");
        store.compact(gone.revision).await.unwrap();
        let old = etcd.range(Range { revision: first.revision, ..Range::default() }).await;
        assert!(matches!(old, Err(ReadError::TooOld(_))), "{old:?}");
    }

    #[tokio::test]
    async fn a_key_on_a_lease_goes_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let server = match Server::start(dir.path()) {
            Ok(server) => server,
            Err(error) => return crate::say(&format!("skipped: {error}")),
        };
        let store = Store::over(Arc::new(Etcd::connect(server.url(), "/t/").await.unwrap())).await.unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        store.commit(Txn::create("e/x", Template::plain("1")).expiring(now + 1)).await.unwrap();
        let mut watch = store.topic("e").watch("e/", store.revision()).unwrap();
        let event = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.unwrap().unwrap();
        assert!(matches!(event.change, Change::Delete(_)));
    }
}
