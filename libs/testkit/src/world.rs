//! A small world: items of six tastes, visitors with two of them each, and a model really trained on it.

use attune_dataset::{Dataset, DatasetEvent};
use attune_domain::{
    Catalogue, Context, EventKey, EventKind, Id, Item, ItemIx, ItemUpdate, Uid, UserAttributes, UserState, UserWindow,
    WindowEvent,
};
use attune_model::{Bundle, Quiet, TrainConfig};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;
use std::sync::{Arc, OnceLock};

pub const TASTES: [&str; 6] = ["comedy", "drama", "horror", "romance", "war", "western"];
pub const ITEMS: usize = 360;
const USERS: u32 = 90;
const EVENTS_PER_USER: i64 = 40;

/// Time of the world's last event.
pub const NOW: i64 = 1_769_682_600_000;

pub struct World {
    pub data: Dataset,
    pub bundle: Arc<Bundle>,
}

/// The taste an item belongs to, as an index into [`TASTES`].
pub fn taste(item: ItemIx) -> usize {
    item.index() % TASTES.len()
}

pub fn item(ix: usize) -> Item {
    Item {
        id: Id::new(&format!("i{ix}")).expect("a valid id"),
        title: format!("The {} number {ix}", TASTES[ix % TASTES.len()]),
        categories: vec![TASTES[ix % TASTES.len()].to_owned()],
        attributes: Vec::new(),
        price: None,
        created_at: Some(NOW - 86_400_000 * (1 + ix as i64 % 400)),
        available: true,
    }
}

/// Trained once a process: the same model for every test.
pub fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| trained(data()))
}

/// The same world where the shop states an attribute of every second visitor: `age` is `young` or `old`.
pub fn stated_world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let age = |user: usize| UserAttributes(vec![("age".into(), ["young", "old"][user / 2 % 2].into())]);
        let attributes = (0..USERS as usize).map(|user| if user % 2 == 0 { age(user) } else { Default::default() });
        trained(Dataset { attributes: attributes.collect(), ..data() })
    })
}

fn trained(data: Dataset) -> World {
    let config = TrainConfig {
        dim: 32,
        tower_epochs: 2,
        ranker_epochs: 1,
        examples_per_epoch: 5_000,
        ranker_rows: 8_000,
        clusters: 8,
        ..TrainConfig::default()
    };
    let bundle = attune_model::train(&data, &config, &Quiet).expect("the small world can be trained on");
    World { data, bundle: Arc::new(bundle) }
}

fn data() -> Dataset {
    let mut rng = ChaCha12Rng::seed_from_u64(11);
    let mut events = Vec::new();
    for user in 0..USERS {
        let tastes = [user as usize % 6, (user as usize / 6) % 6];
        for n in 0..EVENTS_PER_USER {
            // Earlier items of a taste are liked more, so that there is popularity to learn.
            let rank = (rng.random::<f32>().powi(2) * (ITEMS / TASTES.len()) as f32) as usize;
            let taste = if rng.random::<f32>() < 0.1 { rng.random_range(0..6) } else { tastes[n as usize % 2] };
            let kind = if rng.random::<f32>() < 0.6 { EventKind::Like } else { EventKind::Click };
            events.push(DatasetEvent {
                user,
                item: ItemIx((rank * TASTES.len() + taste) as u32),
                kind,
                occurred_at: NOW - (EVENTS_PER_USER - n) * 3_600_000 + i64::from(user),
                value: 1.0,
                slate: None,
                context: Context::DEFAULT,
            });
        }
    }
    events.sort_by_key(|event| event.occurred_at);
    Dataset {
        items: (0..ITEMS).map(item).collect(),
        users: (0..USERS).map(|user| uid(u64::from(user))).collect(),
        attributes: vec![Default::default(); USERS as usize],
        events,
        key_fingerprint: "test".into(),
        name: "small world".into(),
        ..Dataset::default()
    }
}

pub fn uid(n: u64) -> Uid {
    let mut bytes = [1; 17];
    bytes[1..9].copy_from_slice(&n.to_le_bytes());
    Uid(bytes)
}

/// The items as the log's one writer would have numbered them.
pub fn catalogue(items: impl IntoIterator<Item = Item>) -> Catalogue {
    let mut catalogue = Catalogue::default();
    for (ix, item) in items.into_iter().enumerate() {
        let update = ItemUpdate { ix: ItemIx(ix as u32), item };
        catalogue.apply(ix as u64, update).expect("offsets without a gap");
    }
    catalogue
}

/// A visitor who liked these items, one an hour, the last just now.
pub fn visitor(liked: &[u32]) -> UserState {
    let mut window = UserWindow::default();
    for (age, item) in liked.iter().rev().enumerate() {
        window.insert(WindowEvent {
            occurred_at: NOW - age as i64 * 3_600_000,
            key: EventKey(u64::from(*item)),
            item: ItemIx(*item),
            kind: EventKind::Like,
            value: 1.0,
        });
    }
    UserState { window, ..UserState::default() }
}
