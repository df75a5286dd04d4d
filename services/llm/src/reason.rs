//! The use case: factors in, an explanation out, sentence by sentence.
//!
//! Always holds: every request is answered (the template cannot fail), nothing unchecked is answered, and a caller that
//! goes away stops the call of the back-end at once. Before the back-end is asked come, in this order: the cache, the
//! time left, a place among the calls that run, the breaker, the budget.

use crate::breaker::{Breaker, Pass};
use crate::budget::{Budget, Price, Reservation, Tokens};
use crate::factors::Factors;
use crate::generate::{Ended, Finish, Generated, Generator};
use crate::grounding::Grounding;
use crate::prompt::Prompt;
use crate::screen::{End, Screen};
use crate::telemetry::{ChatSpan, Fallback, LlmMetrics, Lookup, Outcome, describe};
use crate::template;
use attune_telemetry::{Clock, Name, Scope};
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, StreamExt as _};
use moka::sync::Cache;
use parking_lot::RwLock;
use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::time::{Instant, timeout_at};

/// Categories remembered so that texts about other items can be checked for them.
const MAX_LISTED: usize = 2048;

/// A part of an answer. The last one, and only it, is [`Piece::Last`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    Last(Summary),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub model: Name,
    pub cached: bool,
    /// What this answer took; nothing when it was cached.
    pub tokens: Tokens,
    pub fallback: Option<Fallback>,
}

/// Limits of one back-end.
#[derive(Debug, Clone)]
pub struct Limits {
    /// From the call to the back-end's first chunk.
    pub first_chunk: Duration,
    /// From the call to its last.
    pub total: Duration,
    /// Kept of the caller's deadline for the template.
    pub reserve: Duration,
    pub concurrent: usize,
    pub waiting: usize,
    pub wait: Duration,
    pub cache_bytes: u64,
    pub cache_ttl: Duration,
    pub breaker_failures: u32,
    pub breaker_open: Duration,
}

pub struct Backend {
    pub generator: Box<dyn Generator>,
    pub model: Name,
    pub price: Price,
    pub daily_budget: crate::budget::NanoDollars,
    pub limits: Limits,
}

pub struct Reasoner {
    asked: Option<Asked>,
    template: Name,
    metrics: LlmMetrics,
    clock: Clock,
}

/// The back-end and everything that guards it.
struct Asked {
    backend: Backend,
    cache: Cache<[u8; 32], Arc<str>>,
    budget: Arc<Budget>,
    breaker: Arc<Breaker>,
    running: Semaphore,
    waiting: Semaphore,
    listed: RwLock<HashSet<String>>,
}

impl Reasoner {
    /// Without a back-end the template answers everything.
    pub fn new(backend: Option<Backend>, metrics: LlmMetrics, clock: Clock) -> Arc<Self> {
        let asked = backend.map(|backend| {
            let limits = &backend.limits;
            let spent = metrics.clone();
            let budget = Budget::new(backend.daily_budget, Box::new(move |cost| spent.spent(cost)));
            metrics.budget_is(budget.daily(), 0);
            Asked {
                cache: Cache::builder()
                    .max_capacity(limits.cache_bytes)
                    .weigher(|_, text: &Arc<str>| u32::try_from(text.len() + 128).unwrap_or(u32::MAX))
                    .time_to_live(limits.cache_ttl)
                    .build(),
                budget,
                breaker: Breaker::new(limits.breaker_failures, limits.breaker_open),
                running: Semaphore::new(limits.concurrent),
                waiting: Semaphore::new(limits.waiting),
                listed: RwLock::default(),
                backend,
            }
        });
        #[expect(clippy::expect_used, reason = "a constant plain name")]
        let template = Name::new("template").expect("a plain name");
        Arc::new(Self { asked, template, metrics, clock })
    }

    /// The answer as it comes. Dropping it stops everything that was begun for it.
    pub fn reason(self: &Arc<Self>, factors: Factors, scope: Scope) -> Answer {
        let (out, pieces) = mpsc::channel(4);
        let this = self.clone();
        let work = async move {
            let summary = this.answer(&factors, &scope, &out).await;
            describe(&scope.span, &summary.model, summary.tokens, summary.cached, summary.fallback);
            send(&out, Piece::Last(summary)).await;
        };
        Answer { work: Some(work.boxed()), pieces }
    }

    async fn answer(&self, factors: &Factors, scope: &Scope, out: &mpsc::Sender<Piece>) -> Summary {
        let Some(asked) = &self.asked else { return self.by_template(factors, None, out).await };
        let model = asked.backend.model.clone();
        asked.learn_categories(factors);
        if factors.used().is_empty() {
            return self.by_template(factors, Some(Fallback::NoFactors), out).await;
        }
        let key = factors.key(model.as_str());
        let known = asked.cache.get(&key);
        self.metrics.looked_up(if known.is_some() { Lookup::Hit } else { Lookup::Miss });
        if let Some(text) = known {
            self.metrics.answered(false);
            send(out, Piece::Text(text.as_ref().into())).await;
            return Summary { model, cached: true, tokens: Tokens::default(), fallback: None };
        }
        match self.generated(asked, factors, scope, out).await {
            Ok(Written { text, tokens, whole }) => {
                if whole {
                    asked.cache.insert(key, text.into());
                }
                Summary { model, cached: false, tokens, fallback: None }
            }
            Err(why) => self.by_template(factors, Some(why), out).await,
        }
    }

    async fn by_template(&self, factors: &Factors, why: Option<Fallback>, out: &mpsc::Sender<Piece>) -> Summary {
        if let Some(why) = why {
            self.metrics.fell_back(why);
        }
        send(out, Piece::Text(template::explain(factors))).await;
        Summary { model: self.template.clone(), cached: false, tokens: Tokens::default(), fallback: why }
    }

    /// Asks the back-end. On an error nothing was sent.
    async fn generated(
        &self,
        asked: &Asked,
        factors: &Factors,
        scope: &Scope,
        out: &mpsc::Sender<Piece>,
    ) -> Result<Written, Fallback> {
        let admitted = self.admit(asked, factors, scope).await;
        self.metrics.answered(admitted.is_ok());
        let Admitted { _place: place, pass, mut reservation, prompt, until } = admitted?;
        let limits = &asked.backend.limits;
        let max_tokens = asked.backend.generator.max_output_tokens();
        let chat = ChatSpan::begin(&scope.span, &self.metrics, &asked.backend.model, max_tokens);

        let begun = Instant::now();
        let mut call = Call {
            screen: Screen::new(asked.grounding(factors)),
            text: String::new(),
            tokens: Tokens { input: Tokens::estimate(prompt.bytes()), output: 0 },
            received: 0,
            ended: None,
            refused: false,
        };
        let mut steps = asked.backend.generator.generate(&prompt);
        reservation.cost_is(asked.backend.price.of(call.tokens));
        let mut first = true;
        let mut by = until.min(begun + limits.first_chunk);
        let result = loop {
            match timeout_at(by, steps.next()).await {
                Err(_) => break Err(Fallback::Timeout),
                Ok(None) => {
                    break if call.ended.is_some() { Ok(()) } else { Err(Fallback::CutOff) };
                }
                Ok(Some(Err(error))) => break Err(error.into()),
                Ok(Some(Ok(step))) => {
                    if std::mem::take(&mut first) {
                        chat.first_chunk(begun.elapsed());
                        by = until;
                    }
                    let shown = call.take(step);
                    chat.tokens(call.tokens);
                    reservation.cost_is(asked.backend.price.of(call.tokens));
                    if let Some(text) = shown {
                        send(out, Piece::Text(text)).await;
                    }
                    if call.refused || call.screen.is_full() {
                        break Ok(());
                    }
                }
            }
        };
        drop((steps, place));
        if let Some(ended) = &call.ended {
            chat.finished(ended);
        }
        match result {
            Ok(()) => pass.succeeded(),
            Err(why) => {
                pass.failed(Instant::now());
                chat.failed(why);
            }
        }
        self.metrics.circuit_is(asked.breaker.is_closed());
        drop(reservation);
        self.metrics.budget_is(asked.budget.daily(), asked.budget.spent((self.clock)()));

        let whole = call.ended.as_ref().is_some_and(|e| e.finish == Finish::Stop) || call.screen.is_full();
        if let Some(rest) = call.rest(if whole { End::Complete } else { End::Cut }) {
            send(out, Piece::Text(rest)).await;
        }
        if call.text.is_empty() {
            if result.is_ok() {
                chat.outcome(Outcome::Rejected);
            }
            return Err(match (result, &call.ended) {
                (Err(why), _) => why,
                (Ok(()), Some(Ended { finish: Finish::Filtered, .. })) => Fallback::Refused,
                (Ok(()), Some(Ended { finish: Finish::Length, .. })) if !call.refused => Fallback::CutOff,
                (Ok(()), _) => Fallback::Ungrounded,
            });
        }
        if result.is_ok() {
            chat.outcome(if whole && !call.refused { Outcome::Ok } else { Outcome::Shortened });
        }
        Ok(Written { text: call.text, tokens: call.tokens, whole: whole && result.is_ok() })
    }

    async fn admit<'a>(&self, asked: &'a Asked, factors: &Factors, scope: &Scope) -> Result<Admitted<'a>, Fallback> {
        let limits = &asked.backend.limits;
        let now = Instant::now();
        let remaining = scope.deadline.remaining().saturating_sub(limits.reserve);
        if remaining.is_zero() {
            return Err(Fallback::NoTime);
        }
        let place = match asked.running.try_acquire() {
            Ok(place) => place,
            Err(_) => self.wait(asked, now + limits.wait.min(remaining)).await?,
        };
        let now = Instant::now();
        let pass = asked.breaker.pass(now).ok_or(Fallback::CircuitOpen)?;
        let prompt = Prompt::new(factors);
        let at_most =
            Tokens { input: Tokens::estimate(prompt.bytes()), output: asked.backend.generator.max_output_tokens() };
        let cost = asked.backend.price.of(at_most);
        let reservation = asked.budget.reserve((self.clock)(), cost).ok_or(Fallback::Budget)?;
        let remaining = scope.deadline.remaining().saturating_sub(limits.reserve);
        Ok(Admitted { _place: place, pass, reservation, prompt, until: now + limits.total.min(remaining) })
    }

    async fn wait<'a>(&self, asked: &'a Asked, until: Instant) -> Result<SemaphorePermit<'a>, Fallback> {
        let _seat = asked.waiting.try_acquire().map_err(|_| Fallback::Busy)?;
        let _counted = Counted::new(&self.metrics);
        match timeout_at(until, asked.running.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(Fallback::Busy),
        }
    }
}

struct Admitted<'a> {
    _place: SemaphorePermit<'a>,
    pass: Pass,
    reservation: Reservation,
    prompt: Prompt,
    until: Instant,
}

/// A text that was sent.
struct Written {
    text: String,
    tokens: Tokens,
    /// It ended as the model meant it to, and may answer others.
    whole: bool,
}

impl Asked {
    fn learn_categories(&self, factors: &Factors) {
        let unknown = |listed: &HashSet<String>| factors.categories().iter().any(|c| !listed.contains(c));
        if unknown(&self.listed.read()) {
            let mut listed = self.listed.write();
            for category in factors.categories() {
                if listed.len() < MAX_LISTED && !listed.contains(category) {
                    listed.insert(category.clone());
                }
            }
        }
    }

    fn grounding(&self, factors: &Factors) -> Grounding {
        let listed = self.listed.read();
        Grounding::new(factors, listed.iter().chain(factors.categories()).map(String::as_str))
    }
}

/// An answer while it is being read.
struct Call {
    screen: Screen,
    /// What was shown.
    text: String,
    /// As the back-end counts, or estimated while it has not said.
    tokens: Tokens,
    received: usize,
    ended: Option<Ended>,
    /// The screen let no more through.
    refused: bool,
}

impl Call {
    fn take(&mut self, step: Generated) -> Option<String> {
        match step {
            Generated::Text(piece) => {
                self.received += piece.len();
                self.tokens.output = Tokens::estimate(self.received);
                let shown = self.screen.push(&piece);
                self.shown(shown)
            }
            Generated::End(ended) => {
                self.tokens = ended.usage.unwrap_or(self.tokens);
                self.ended = Some(ended);
                None
            }
        }
    }

    fn rest(&mut self, end: End) -> Option<String> {
        if self.refused {
            return None;
        }
        let shown = self.screen.finish(end);
        self.shown(shown)
    }

    fn shown(&mut self, shown: Result<Option<String>, crate::grounding::Ungrounded>) -> Option<String> {
        match shown {
            Ok(text) => {
                self.text.push_str(text.as_deref().unwrap_or_default());
                text
            }
            Err(_) => {
                self.refused = true;
                None
            }
        }
    }
}

struct Counted<'a>(&'a LlmMetrics);

impl<'a> Counted<'a> {
    fn new(metrics: &'a LlmMetrics) -> Self {
        metrics.waiting.inc();
        Self(metrics)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.waiting.dec();
    }
}

/// A reader that went away drops the whole future, so there is nobody to tell.
async fn send(out: &mpsc::Sender<Piece>, piece: Piece) {
    let _ = out.send(piece).await;
}

/// The pieces of one answer. The work is done by whoever reads, and goes with the reader.
pub struct Answer {
    work: Option<BoxFuture<'static, ()>>,
    pieces: mpsc::Receiver<Piece>,
}

impl Stream for Answer {
    type Item = Piece;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        if let Some(work) = &mut self.work
            && work.as_mut().poll(cx).is_ready()
        {
            self.work = None;
        }
        self.pieces.poll_recv(cx)
    }
}
