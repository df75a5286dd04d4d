//! The owner's side.

use super::MAX_MESSAGE_BYTES;
use super::faults::to_status;
use super::messages;
use crate::{EventLog, FeatureStore, KeyErasure};
use async_trait::async_trait;
use attune_proto::convert::WireError;
use attune_proto::storage::v1 as wire;
use attune_proto::storage::v1::event_log_service_server::{EventLogService, EventLogServiceServer};
use attune_proto::storage::v1::feature_store_service_server::{FeatureStoreService, FeatureStoreServiceServer};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

/// Longest that a caller may have a call wait for something to happen.
const MAX_WAIT: Duration = Duration::from_secs(60);

fn wait(ms: u32) -> Duration {
    Duration::from_millis(ms.into()).min(MAX_WAIT)
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Serves an event log.
pub struct EventLogGrpc(Arc<dyn EventLog>, watch::Receiver<bool>);

impl EventLogGrpc {
    /// Once `stop` says so, nobody waits for records any more: a draining server would wait with them.
    pub fn server(log: Arc<dyn EventLog>, stop: watch::Receiver<bool>) -> EventLogServiceServer<Self> {
        EventLogServiceServer::new(Self(log, stop))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }
}

#[async_trait]
impl EventLogService for EventLogGrpc {
    async fn append(&self, request: Request<wire::AppendRequest>) -> Result<Response<wire::AppendResponse>, Status> {
        let request = request.into_inner();
        let topic = messages::topic(&request.topic)?;
        let records = request.records.into_iter().map(messages::record).collect();
        let appended = self.0.append(topic, records).await.map_err(to_status)?;
        Ok(Response::new(wire::AppendResponse {
            offsets: appended.iter().map(|a| a.offset()).collect(),
            duplicates: appended.iter().map(|a| matches!(a, crate::Appended::Duplicate(_))).collect(),
        }))
    }

    async fn read(&self, request: Request<wire::ReadRequest>) -> Result<Response<wire::ReadResponse>, Status> {
        let request = request.into_inner();
        let topic = messages::topic(&request.topic)?;
        let read = |wait| self.0.read(topic, request.from, request.max as usize, wait);
        let found = tokio::select! {
            found = read(wait(request.wait_ms)) => found,
            () = stopped(self.1.clone()) => read(Duration::ZERO).await,
        };
        let (offsets, records) =
            found.map_err(to_status)?.into_iter().map(|(at, r)| (at, messages::record_to_wire(r, None))).unzip();
        Ok(Response::new(wire::ReadResponse { offsets, records }))
    }

    async fn ends(&self, request: Request<wire::EndsRequest>) -> Result<Response<wire::EndsResponse>, Status> {
        let topic = messages::topic(&request.into_inner().topic)?;
        let bounds = self.0.partitions(topic).await.map_err(to_status)?;
        let (starts, ends) = bounds.into_iter().map(|b| (b.start, b.end)).unzip();
        Ok(Response::new(wire::EndsResponse { starts, ends }))
    }

    async fn offset_at(
        &self,
        request: Request<wire::OffsetAtRequest>,
    ) -> Result<Response<wire::OffsetAtResponse>, Status> {
        let wire::OffsetAtRequest { topic, partition, at } = request.into_inner();
        let topic = messages::topic(&topic)?;
        let partition = u16::try_from(partition).map_err(|_| WireError::new("partition", "is out of range"))?;
        let offset = self.0.offset_at(topic, partition, at).await.map_err(to_status)?;
        Ok(Response::new(wire::OffsetAtResponse { offset }))
    }

    async fn erase_key(
        &self,
        request: Request<wire::EraseKeyRequest>,
    ) -> Result<Response<wire::EraseKeyResponse>, Status> {
        let request = request.into_inner();
        let topic = messages::topic(&request.topic)?;
        let erased = self.0.erase_key(topic, request.key, request.before).await.map_err(to_status)?;
        Ok(Response::new(match erased {
            KeyErasure::Emptied(erased) => wire::EraseKeyResponse { erased, ..Default::default() },
            KeyErasure::Retained { expires_at } => {
                wire::EraseKeyResponse { retained: true, expires_at, ..Default::default() }
            }
        }))
    }

    async fn forget_dedup(
        &self,
        request: Request<wire::ForgetRequest>,
    ) -> Result<Response<wire::ForgetResponse>, Status> {
        self.0.forget_dedup_before(request.into_inner().before_day).await.map_err(to_status)?;
        Ok(Response::new(wire::ForgetResponse {}))
    }
}

/// Serves a feature store.
pub struct FeatureStoreGrpc(Arc<dyn FeatureStore>);

impl FeatureStoreGrpc {
    pub fn server(store: Arc<dyn FeatureStore>) -> FeatureStoreServiceServer<Self> {
        FeatureStoreServiceServer::new(Self(store))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }
}

#[async_trait]
impl FeatureStoreService for FeatureStoreGrpc {
    async fn load_users(
        &self,
        request: Request<wire::LoadUsersRequest>,
    ) -> Result<Response<wire::LoadUsersResponse>, Status> {
        let uids = messages::uids(&request.into_inner().uids)?;
        let states = self.0.load_users(&uids).await.map_err(to_status)?;
        Ok(Response::new(wire::LoadUsersResponse { states: states.iter().map(Into::into).collect() }))
    }

    async fn posteriors(
        &self,
        _: Request<wire::PosteriorsRequest>,
    ) -> Result<Response<attune_proto::state::v1::PosteriorSnapshot>, Status> {
        let snapshot = self.0.posteriors().await.map_err(to_status)?;
        Ok(Response::new((&snapshot).into()))
    }

    async fn progress(
        &self,
        request: Request<wire::ProgressRequest>,
    ) -> Result<Response<wire::ProgressResponse>, Status> {
        let wire::ProgressRequest { consumer, wait_for, wait_ms } = request.into_inner();
        let next_offset = self.0.wait_applied(&consumer, wait_for, wait(wait_ms)).await.map_err(to_status)?;
        Ok(Response::new(wire::ProgressResponse { next_offset }))
    }

    async fn load_outcomes(
        &self,
        request: Request<wire::LoadOutcomesRequest>,
    ) -> Result<Response<wire::LoadOutcomesResponse>, Status> {
        let wire::LoadOutcomesRequest { keys, partition } = request.into_inner();
        let keys = keys.iter().map(messages::outcome_key).collect::<Result<Vec<_>, _>>()?;
        let partition = u16::try_from(partition).map_err(|_| WireError::new("partition", "is out of range"))?;
        let bits = self.0.load_outcomes(partition, &keys).await.map_err(to_status)?;
        Ok(Response::new(wire::LoadOutcomesResponse { bits: Bytes::from(bits) }))
    }

    async fn fences(&self, request: Request<wire::FencesRequest>) -> Result<Response<wire::FencesResponse>, Status> {
        let uids = messages::uids(&request.into_inner().uids)?;
        let fences = self.0.fences(&uids).await.map_err(to_status)?;
        let fences = fences.into_iter().map(|offset| wire::Fence { offset }).collect();
        Ok(Response::new(wire::FencesResponse { fences }))
    }

    async fn apply(&self, request: Request<wire::ApplyRequest>) -> Result<Response<wire::ApplyResponse>, Status> {
        let effects = messages::effects(&request.into_inner())?;
        self.0.apply(effects).await.map_err(to_status)?;
        Ok(Response::new(wire::ApplyResponse {}))
    }

    async fn forget_outcomes(
        &self,
        request: Request<wire::ForgetRequest>,
    ) -> Result<Response<wire::ForgetResponse>, Status> {
        self.0.forget_outcomes_before(request.into_inner().before_day).await.map_err(to_status)?;
        Ok(Response::new(wire::ForgetResponse {}))
    }

    async fn user_count(
        &self,
        _: Request<wire::UserCountRequest>,
    ) -> Result<Response<wire::UserCountResponse>, Status> {
        let users = self.0.user_count().await.map_err(to_status)?;
        Ok(Response::new(wire::UserCountResponse { users }))
    }
}
