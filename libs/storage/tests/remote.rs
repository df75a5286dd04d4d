//! What only remote stores have: owners that go away, hang, or get nonsense.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use attune_proto::storage::v1 as wire;
use attune_proto::storage::v1::feature_store_service_client::FeatureStoreServiceClient;
use attune_storage::*;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint, Server};

fn options() -> FeatureOptions {
    FeatureOptions { half_life: Duration::from_secs(60), clock: Arc::new(|| 0) }
}

/// An owner on a runtime of its own: when that goes, so do its connections.
async fn owner() -> (Channel, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.spawn(tokio::net::TcpListener::bind("127.0.0.1:0")).await.unwrap().unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(
        Server::builder()
            .add_service(FeatureStoreGrpc::server(Arc::new(MemoryFeatureStore::new(options()))))
            .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)),
    );
    (Endpoint::try_from(format!("http://{address}")).unwrap().connect_lazy(), runtime)
}

#[tokio::test]
async fn an_owner_that_goes_away_is_unavailable() {
    let (channel, runtime) = owner().await;
    let store = RemoteFeatureStore::new(channel, Duration::from_secs(30));
    assert_eq!(store.user_count().await, Ok(0));
    tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(10))).await.unwrap();
    assert_eq!(store.user_count().await, Err(StorageError::Unavailable));
}

#[tokio::test]
async fn an_owner_that_does_not_answer_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::try_from(format!("http://{}", silent.local_addr().unwrap())).unwrap();
    let log = RemoteEventLog::new(endpoint.connect_lazy(), Duration::from_millis(20));
    assert_eq!(log.bounds(Topic::UserEvents).await, Err(StorageError::Unavailable));
}

#[tokio::test]
async fn nonsense_is_refused_with_its_field() {
    let (channel, runtime) = owner().await;
    let mut client = FeatureStoreServiceClient::new(channel);
    let good = wire::ApplyRequest { consumer: USER_EVENTS_CONSUMER.into(), next_offset: 1, ..Default::default() };
    let short = || b"short".as_slice().into();
    let cases = [
        (wire::ApplyRequest { consumer: "nobody".into(), ..good.clone() }, "consumer"),
        (wire::ApplyRequest { erased: vec![wire::ErasedUser { uid: short(), offset: 1 }], ..good.clone() }, "uid"),
        (wire::ApplyRequest { outcomes: vec![wire::OutcomeEffect::default()], ..good.clone() }, "outcomes.key"),
        (
            wire::ApplyRequest {
                posteriors: vec![wire::PosteriorChange { impressions: f32::NAN, ..Default::default() }],
                ..good.clone()
            },
            "posteriors",
        ),
    ];
    for (request, field) in cases {
        let refused = client.apply(request).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert!(refused.message().starts_with(field), "{refused:?}");
    }
    client.apply(good).await.unwrap();
    runtime.shutdown_background();
}
