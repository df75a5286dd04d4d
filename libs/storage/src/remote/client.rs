//! The side of everybody else. Generic over the transport: a TCP or Unix channel, or the server value itself.

use super::MAX_MESSAGE_BYTES;
use super::faults::from_status;
use super::messages;
use crate::{
    Appended, Bounds, DedupKey, EffectBatch, EventLog, FeatureStore, KeyErasure, OutcomeKey, Record, StorageError,
    Topic, first_offset, limits::append_bytes,
};
use async_trait::async_trait;
use attune_domain::{PosteriorSnapshot, Uid, UnixMillis, UserState};
use attune_proto::convert::{self, WireError};
use attune_proto::storage::v1 as wire;
use attune_proto::storage::v1::event_log_service_client::EventLogServiceClient;
use attune_proto::storage::v1::feature_store_service_client::FeatureStoreServiceClient;
use std::time::Duration;
use tonic::client::GrpcService;
use tonic::codegen::{Body, Bytes, StdError};
use tonic::{Request, Response, Status};

/// An owner that answers what the contract does not allow.
fn broken(error: WireError) -> StorageError {
    StorageError::corrupt(format!("answer of the store: {error}"))
}

fn same_length(asked: usize, got: usize) -> Result<(), StorageError> {
    if asked == got { Ok(()) } else { Err(broken(WireError::new("answer", "differs in length from the question"))) }
}

fn millis(wait: Duration) -> u32 {
    u32::try_from(wait.as_millis()).unwrap_or(u32::MAX)
}

/// Sends with the deadline on the wire, and keeps it here too: the server may be the one that hangs.
async fn call<M, R>(
    message: M,
    deadline: Duration,
    send: impl AsyncFnOnce(Request<M>) -> Result<Response<R>, Status>,
) -> Result<R, StorageError> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    match tokio::time::timeout(deadline, send(request)).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(from_status(&status)),
        Err(_) => Err(StorageError::Unavailable),
    }
}

/// Event log of another process.
pub struct RemoteEventLog<T> {
    client: EventLogServiceClient<T>,
    timeout: Duration,
}

impl<T> RemoteEventLog<T>
where
    T: GrpcService<tonic::body::Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as Body>::Error: Into<StdError> + Send,
{
    /// A call fails after `timeout`, beyond the time it was asked to wait.
    pub fn new(channel: T, timeout: Duration) -> Self {
        let client = EventLogServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Self { client, timeout }
    }
}

#[async_trait]
impl<T> EventLog for RemoteEventLog<T>
where
    T: GrpcService<tonic::body::Body> + Clone + Send + Sync + 'static,
    T::Future: Send,
    T::Error: Into<StdError>,
    T::ResponseBody: Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as Body>::Error: Into<StdError> + Send,
{
    async fn append(
        &self,
        topic: Topic,
        records: Vec<(Record, Option<DedupKey>)>,
    ) -> Result<Vec<Appended>, StorageError> {
        append_bytes(records.iter().map(|(record, _)| record))?;
        let asked = records.len();
        let records = records.into_iter().map(|(record, dedup)| messages::record_to_wire(record, dedup)).collect();
        let request = wire::AppendRequest { topic: topic.as_str().to_owned(), records };
        let mut client = self.client.clone();
        let answer = call(request, self.timeout, async move |r| client.append(r).await).await?;
        same_length(asked, answer.offsets.len())?;
        same_length(asked, answer.duplicates.len())?;
        let appended = answer.offsets.into_iter().zip(answer.duplicates);
        Ok(appended
            .map(|(at, duplicate)| if duplicate { Appended::Duplicate(at) } else { Appended::New(at) })
            .collect())
    }

    async fn read(
        &self,
        topic: Topic,
        from: u64,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<(u64, Record)>, StorageError> {
        let max = u32::try_from(max).unwrap_or(u32::MAX);
        let request = wire::ReadRequest { topic: topic.as_str().to_owned(), from, max, wait_ms: millis(wait) };
        let mut client = self.client.clone();
        let answer = call(request, self.timeout.saturating_add(wait), async move |r| client.read(r).await).await?;
        same_length(answer.offsets.len(), answer.records.len())?;
        Ok(answer.offsets.into_iter().zip(answer.records.into_iter().map(|r| messages::record(r).0)).collect())
    }

    async fn partitions(&self, topic: Topic) -> Result<Vec<Bounds>, StorageError> {
        let request = wire::EndsRequest { topic: topic.as_str().to_owned() };
        let mut client = self.client.clone();
        let answer = call(request, self.timeout, async move |r| client.ends(r).await).await?;
        same_length(answer.starts.len(), answer.ends.len())?;
        Ok(answer.starts.into_iter().zip(answer.ends).map(|(start, end)| Bounds { start, end }).collect())
    }

    async fn offset_at(&self, topic: Topic, partition: u16, at: UnixMillis) -> Result<u64, StorageError> {
        let request = wire::OffsetAtRequest { topic: topic.as_str().to_owned(), partition: partition.into(), at };
        let mut client = self.client.clone();
        Ok(call(request, self.timeout, async move |r| client.offset_at(r).await).await?.offset)
    }

    async fn erase_key(&self, topic: Topic, key: Bytes, before: u64) -> Result<KeyErasure, StorageError> {
        let mut client = self.client.clone();
        let request = wire::EraseKeyRequest { topic: topic.as_str().to_owned(), key, before };
        let answer = call(request, self.timeout, async move |r| client.erase_key(r).await).await?;
        Ok(if answer.retained {
            KeyErasure::Retained { expires_at: answer.expires_at }
        } else {
            KeyErasure::Emptied(answer.erased)
        })
    }

    async fn forget_dedup_before(&self, day: i64) -> Result<(), StorageError> {
        let mut client = self.client.clone();
        let request = wire::ForgetRequest { before_day: day };
        call(request, self.timeout, async move |r| client.forget_dedup(r).await).await.map(drop)
    }
}

/// Feature store of another process.
pub struct RemoteFeatureStore<T> {
    client: FeatureStoreServiceClient<T>,
    timeout: Duration,
}

impl<T> RemoteFeatureStore<T>
where
    T: GrpcService<tonic::body::Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as Body>::Error: Into<StdError> + Send,
{
    /// A call fails after `timeout`, beyond the time it was asked to wait.
    pub fn new(channel: T, timeout: Duration) -> Self {
        let client = FeatureStoreServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Self { client, timeout }
    }
}

#[async_trait]
impl<T> FeatureStore for RemoteFeatureStore<T>
where
    T: GrpcService<tonic::body::Body> + Clone + Send + Sync + 'static,
    T::Future: Send,
    T::Error: Into<StdError>,
    T::ResponseBody: Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as Body>::Error: Into<StdError> + Send,
{
    async fn load_users(&self, uids: &[Uid]) -> Result<Vec<UserState>, StorageError> {
        let request = wire::LoadUsersRequest { uids: uids.iter().map(messages::uid_to_wire).collect() };
        let mut client = self.client.clone();
        let answer = call(request, self.timeout, async move |r| client.load_users(r).await).await?;
        same_length(uids.len(), answer.states.len())?;
        answer.states.iter().map(|state| convert::user_state(Some(state)).map_err(broken)).collect()
    }

    async fn wait_applied(&self, consumer: &str, offset: u64, wait: Duration) -> Result<u64, StorageError> {
        let consumer = consumer.to_owned();
        let request = wire::ProgressRequest { consumer, wait_for: offset, wait_ms: millis(wait) };
        let mut client = self.client.clone();
        let answer = call(request, self.timeout.saturating_add(wait), async move |r| client.progress(r).await).await?;
        Ok(answer.next_offset)
    }

    async fn progress(&self, consumer: &str, partition: u16) -> Result<u64, StorageError> {
        self.wait_applied(consumer, first_offset(partition), Duration::ZERO).await
    }

    async fn posteriors(&self) -> Result<PosteriorSnapshot, StorageError> {
        let mut client = self.client.clone();
        let answer = call(wire::PosteriorsRequest {}, self.timeout, async move |r| client.posteriors(r).await).await?;
        convert::posterior_snapshot(&answer).map_err(broken)
    }

    async fn load_outcomes(&self, partition: u16, keys: &[OutcomeKey]) -> Result<Vec<u8>, StorageError> {
        let keys_to_wire = keys.iter().map(messages::outcome_key_to_wire).collect();
        let request = wire::LoadOutcomesRequest { keys: keys_to_wire, partition: partition.into() };
        let mut client = self.client.clone();
        let answer = call(request, self.timeout, async move |r| client.load_outcomes(r).await).await?;
        same_length(keys.len(), answer.bits.len())?;
        Ok(answer.bits.into())
    }

    async fn fences(&self, uids: &[Uid]) -> Result<Vec<Option<u64>>, StorageError> {
        let request = wire::FencesRequest { uids: uids.iter().map(messages::uid_to_wire).collect() };
        let mut client = self.client.clone();
        let answer = call(request, self.timeout, async move |r| client.fences(r).await).await?;
        same_length(uids.len(), answer.fences.len())?;
        Ok(answer.fences.into_iter().map(|fence| fence.offset).collect())
    }

    async fn apply(&self, batch: EffectBatch) -> Result<(), StorageError> {
        let mut client = self.client.clone();
        let request = messages::effects_to_wire(&batch);
        call(request, self.timeout, async move |r| client.apply(r).await).await.map(drop)
    }

    async fn forget_outcomes_before(&self, day: i64) -> Result<(), StorageError> {
        let mut client = self.client.clone();
        let request = wire::ForgetRequest { before_day: day };
        call(request, self.timeout, async move |r| client.forget_outcomes(r).await).await.map(drop)
    }

    async fn user_count(&self) -> Result<u64, StorageError> {
        let mut client = self.client.clone();
        let answer = call(wire::UserCountRequest {}, self.timeout, async move |r| client.user_count(r).await).await?;
        Ok(answer.users)
    }
}
