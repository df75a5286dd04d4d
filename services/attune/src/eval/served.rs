//! A platform on the training half of a split, and what it answers over HTTP.

use super::raw_id;
use crate::platform;
use crate::settings::Tables;
use crate::simulate::client::EdgeClient;
use crate::simulate::wire::{Answer, Ask, AskContext};
use crate::state::StateFolder;
use crate::up::{UpArgs, with_places};
use anyhow::Context as _;
use attune_domain::ItemIx;
use attune_model::evaluation::{Case, Split};
use attune_runtime::{Exit, OrExit as _, system_clock};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Longest list that the edge gives.
pub(super) const LIMIT: usize = 100;
const TIMEOUT: Duration = Duration::from_secs(30);
/// Quality is judged without hurry: a busy machine must not turn it into a measurement of latency.
const UNHURRIED: [(&str, &str, &str); 12] = [
    ("edge", "origin_deadline", "20s"),
    // The clock jumps from question to question; nothing may grow old by that.
    ("edge", "cache.behind", "876000h"),
    ("edge", "cache.fresh", "876000h"),
    ("edge", "cache.stale", "876000h"),
    ("origin", "deadlines.context", "5s"),
    ("origin", "deadlines.retrieval", "5s"),
    ("origin", "deadlines.ranking", "5s"),
    ("origin", "deadlines.bandit", "5s"),
    ("retrieval", "deadlines.neighbours", "4s"),
    ("retrieval", "deadlines.similar_to_recent", "4s"),
    ("retrieval", "deadlines.trending", "4s"),
    ("retrieval", "deadlines.cohort_favourites", "4s"),
];

/// How a platform explores while it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exploring {
    /// As configured.
    On,
    Off,
}

/// The lists of all cases, in their order, as a miss and then as a hit.
pub(super) struct Served {
    pub(super) miss: Lists,
    pub(super) hit: Lists,
}

pub(super) struct Lists {
    pub(super) items: Vec<Vec<ItemIx>>,
    pub(super) facts: Facts,
}

/// What became of the requests behind a row of figures.
#[derive(Debug, Default, Clone, Serialize)]
pub(super) struct Facts {
    pub(super) requests: usize,
    /// Answers whose `cache` was what the row is about.
    pub(super) as_meant: usize,
    pub(super) shorter_than_asked: usize,
    /// Answers by level; 0 is undegraded.
    pub(super) levels: BTreeMap<u8, usize>,
    /// Share of the slots that the platform gave to exploration.
    pub(super) explored: f64,
}

/// Settings of an evaluated platform: as served, but unhurried.
pub(super) fn unhurried(state: &StateFolder, config: Option<&Path>) -> anyhow::Result<Tables> {
    let args = UpArgs {
        log: None,
        store: None,
        data: None,
        state: state.root().to_owned(),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        separate: false,
        observe: false,
        visitors: 0,
        seed: 0,
        config: None,
        json: true,
    };
    let mut tables = with_places(Tables::read(config)?, state, &args)?;
    for (service, key, value) in UNHURRIED {
        tables.set(service, key, value);
    }
    Ok(tables)
}

/// The same without a holdout.
pub(super) fn tables(state: &StateFolder, config: Option<&Path>, exploring: Exploring) -> anyhow::Result<Tables> {
    let mut tables = unhurried(state, config)?;
    tables.set("edge", "experiment.holdout", 0.0);
    if exploring == Exploring::Off {
        for service in ["edge", "bandit"] {
            for key in ["policy.uniform", "policy.exploration_min", "policy.exploration_max"] {
                tables.set(service, key, 0.0);
            }
        }
    }
    Ok(tables)
}

/// Starts the platform of a filled folder, asks twice for every case at the time of its held-out event, and stops it.
pub(super) async fn ask(state: &StateFolder, tables: &Tables, split: &Split) -> anyhow::Result<Served> {
    let settings = tables.settings()?;
    // Forwards only, as clocks go: the questions are asked in the order of their times.
    let mut order: Vec<usize> = (0..split.cases.len()).collect();
    order.sort_by_key(|&case| split.cases[case].at);
    let time = Arc::new(AtomicI64::new(order.first().map_or(0, |&case| split.cases[case].at)));
    let hand = Arc::clone(&time);
    let running =
        platform::start(state, settings, system_clock(), Arc::new(move || hand.load(Ordering::Relaxed))).await?;
    let asker = Asker {
        client: EdgeClient::new(&running.ready().edge, TIMEOUT).or_exit(Exit::Internal)?,
        numbers: (0..).zip(&split.train.items).map(|(ix, item)| (item.id.to_string(), ItemIx(ix))).collect(),
    };
    let answers = asker.ask_all(split, &order, &time).await;
    running.shutdown.trigger();
    running.ended().await?;
    let answers = answers?;
    let of = |which: usize, meant: &str| asker.lists(answers.values().map(|pair| &pair[which]), meant);
    Ok(Served { miss: of(0, "miss")?, hit: of(1, "hit")? })
}

struct Asker {
    client: EdgeClient,
    numbers: HashMap<String, ItemIx>,
}

impl Asker {
    /// Answers by case.
    async fn ask_all(
        &self,
        split: &Split,
        order: &[usize],
        time: &AtomicI64,
    ) -> anyhow::Result<BTreeMap<usize, [Answer; 2]>> {
        let bar = crate::output::progress_bar("asking the platform", order.len() as u64);
        let mut answers = BTreeMap::new();
        for &number in order {
            let case = &split.cases[number];
            time.store(case.at, Ordering::Relaxed);
            answers.insert(number, [self.ask(case).await?, self.ask(case).await?]);
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(answers)
    }

    async fn ask(&self, case: &Case) -> anyhow::Result<Answer> {
        let user = raw_id(case.user);
        let ask = Ask {
            user_id: &user,
            page_type: "home",
            limit: LIMIT,
            item_id: None,
            query: None,
            context: AskContext {
                device: case.context.device.as_str(),
                geo: case.context.geo.as_str(),
                session_id: &user,
            },
        };
        let (answer, _) = self
            .client
            .personalize(&ask, 0)
            .await
            .with_context(|| format!("ask the platform for {user}"))
            .or_exit(Exit::TryLater)?;
        Ok(answer)
    }

    fn lists<'a>(&self, answers: impl Iterator<Item = &'a Answer>, meant: &str) -> anyhow::Result<Lists> {
        let mut lists = Lists { items: Vec::new(), facts: Facts::default() };
        let (mut slots, mut explored) = (0usize, 0usize);
        for answer in answers {
            let number = |id: &String| self.numbers.get(id).copied();
            let list: Option<Vec<ItemIx>> = answer.items.iter().map(|item| number(&item.item_id)).collect();
            let list = list.context("the platform answered with an item that the data set does not have")?;
            let facts = &mut lists.facts;
            facts.requests += 1;
            facts.as_meant += usize::from(answer.cache == meant);
            facts.shorter_than_asked += usize::from(list.len() < LIMIT);
            *facts.levels.entry(answer.level).or_default() += 1;
            slots += list.len();
            explored += answer.items.iter().filter(|item| item.reason == "exploration").count();
            lists.items.push(list);
        }
        lists.facts.explored = explored as f64 / slots.max(1) as f64;
        Ok(lists)
    }
}
