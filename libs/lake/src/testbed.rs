//! A platform in memory, for tests: its logs, and the decisions it is said to have made.

use crate::error::LakeError;
use crate::source::LakeSource;
use async_trait::async_trait;
use attune_decision::DecisionRecord;
use attune_domain::{
    Context, EventId, EventKind, ItemIx, LoggedEvent, RequestId, Uid, UnixMillis, UserAttributes, UserState,
};
use attune_proto::{convert, state::v1 as wire};
use attune_serving::Serving;
use attune_storage::{EventLog, MemoryEventLog, Record, Topic};
use attune_testkit::world;
use bytes::Bytes;
use prost::Message as _;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

pub(crate) const T: UnixMillis = attune_testkit::world::NOW;

pub(crate) struct Bed {
    pub(crate) log: MemoryEventLog,
    pub(crate) decisions: HashMap<RequestId, DecisionRecord>,
    pub(crate) states: HashMap<Vec<u8>, UserState>,
    pub(crate) serving: Arc<Serving>,
}

pub(crate) fn request(n: u64, at: UnixMillis) -> RequestId {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&n.to_be_bytes());
    RequestId::new(at, random)
}

pub(crate) fn event(uid: Uid, id: &str, kind: EventKind, item: u32, times: (UnixMillis, UnixMillis)) -> LoggedEvent {
    LoggedEvent {
        uid,
        event_id: EventId::new(id).unwrap(),
        kind,
        item_id: world::item(item as usize).id,
        item: ItemIx(item),
        request_id: None,
        position: None,
        occurred_at: times.0,
        accepted_at: times.1,
        value: 1.0,
        imported: false,
        in_decision: false,
        decided: None,
    }
}

/// What a visitor did about a slot of a decision.
pub(crate) fn response(uid: Uid, request_id: RequestId, kind: EventKind, item: u32, at: UnixMillis) -> LoggedEvent {
    let id = format!("{request_id}-{item}-{kind}");
    LoggedEvent { request_id: Some(request_id), in_decision: true, ..event(uid, &id, kind, item, (at, at)) }
}

impl Bed {
    pub(crate) fn new() -> Self {
        static SERVING: OnceLock<Arc<Serving>> = OnceLock::new();
        let serving = SERVING.get_or_init(|| {
            let world = world::world();
            let catalogue = world::catalogue(world.data.items.iter().cloned());
            Arc::new(Serving::new(Arc::clone(&world.bundle), catalogue).unwrap())
        });
        Self {
            log: MemoryEventLog::default(),
            decisions: HashMap::new(),
            states: HashMap::new(),
            serving: Arc::clone(serving),
        }
    }

    pub(crate) async fn write(&self, event: &LoggedEvent) {
        let record = Some(wire::user_record::Record::Event(event.into()));
        self.append(Topic::UserEvents, event.uid, wire::UserRecord { uid: uid_bytes(event.uid), record, schema: 0 })
            .await;
    }

    pub(crate) async fn erase(&self, uid: Uid, at: UnixMillis) {
        let record = Some(wire::user_record::Record::Erased(wire::Erased { at }));
        self.append(Topic::UserEvents, uid, wire::UserRecord { uid: uid_bytes(uid), record, schema: 0 }).await;
    }

    pub(crate) async fn attributes(&self, uid: Uid, pairs: &[(&str, &str)], accepted_at: UnixMillis) {
        let attributes = UserAttributes(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect());
        let attributes = convert::user_attributes_to_wire(&attributes);
        let update = wire::UserAttributes { uid: uid_bytes(uid), attributes, accepted_at, imported: false, schema: 0 };
        self.append(Topic::UserUpdates, uid, update).await;
    }

    pub(crate) async fn items(&self) {
        for (ix, item) in self.serving.catalogue.items().iter().enumerate() {
            let update = attune_domain::ItemUpdate { ix: ItemIx(ix as u32), item: item.clone() };
            let update = wire::ItemUpdate { accepted_at: T - 86_400_000, imported: true, ..(&update).into() };
            let key = Bytes::copy_from_slice(item.id.as_str().as_bytes());
            let record = Record { key, value: update.encode_to_vec().into(), traceparent: String::new() };
            self.log.append(Topic::ItemUpdates, vec![(record, None)]).await.unwrap();
        }
    }

    async fn append(&self, topic: Topic, uid: Uid, message: impl prost::Message) {
        let value = message.encode_to_vec().into();
        let record = Record { key: uid_bytes(uid), value, traceparent: String::new() };
        self.log.append(topic, vec![(record, None)]).await.unwrap();
    }

    /// A decision that served these items, on this state where one is given.
    pub(crate) fn decide(
        &mut self,
        n: u64,
        uid: Uid,
        at: UnixMillis,
        items: &[u32],
        state: Option<UserState>,
    ) -> RequestId {
        let id = request(n, at);
        let name = state.map(|state| {
            let name = n.to_be_bytes().to_vec();
            self.states.insert(name.clone(), state);
            name
        });
        let record = DecisionRecord {
            request_id: Bytes::copy_from_slice(&id.0),
            uid: uid_bytes(uid),
            now: at,
            context: Some(Context::DEFAULT.into()),
            model: self.serving.bundle.version().code(),
            catalogue_offset: self.serving.catalogue.next_offset(),
            items: items.to_vec(),
            policy: vec![0.02, 30.0, 0.05, 0.15, 0.4, 0.93],
            eligible: 100,
            state: name.unwrap_or_default().into(),
            ..DecisionRecord::default()
        };
        self.decisions.insert(id, record);
        id
    }
}

fn uid_bytes(uid: Uid) -> Bytes {
    Bytes::copy_from_slice(&uid.0)
}

#[async_trait]
impl LakeSource for Bed {
    fn log(&self) -> &dyn EventLog {
        &self.log
    }

    async fn decisions_since(&self, from: UnixMillis) -> Result<Vec<RequestId>, LakeError> {
        Ok(self.decisions.keys().copied().filter(|id| id.unix_millis() >= from).collect())
    }

    async fn decision(&self, id: RequestId) -> Result<Option<DecisionRecord>, LakeError> {
        Ok(self.decisions.get(&id).cloned())
    }

    async fn state(&self, hash: &[u8]) -> Result<Option<UserState>, LakeError> {
        Ok(self.states.get(hash).cloned())
    }

    async fn serving(&self, model: u64, _: u64) -> Result<Option<Arc<Serving>>, LakeError> {
        Ok((model == self.serving.bundle.version().code()).then(|| Arc::clone(&self.serving)))
    }
}
