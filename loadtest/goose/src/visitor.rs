//! One visitor on a journey: who it is, what it sees, what it does.

use crate::tally::Tally;
use crate::wire::{Act, Ask, Explanation, Page, Receipt, batch};
use attune_domain::{Device, EventKind, Geo, Id, ItemId, PageType, SessionId};
use goose::goose::GooseResponse;
use goose::metrics::GooseRequestMetric;
use goose::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const LIMIT: u16 = 20;
/// Visitors come back: so many there are.
const VISITORS: u64 = 2000;
/// Tries of one batch: it carries its event ids, so that trying again counts nothing twice.
const TRIES: u32 = 5;

#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    rng: SmallRng,
    number: u64,
    tally: Arc<Tally>,
    user: Id,
    session: SessionId,
    device: Device,
    geo: Geo,
    page: Option<Page>,
    /// What was clicked on the last page.
    opened: Option<ItemId>,
    events: u64,
}

fn id(text: &str) -> Id {
    Id::new(text).expect("letters, digits and dashes are an id")
}

impl Visitor {
    pub(crate) fn arrive(tally: &Arc<Tally>) -> Self {
        let number = tally.next_visitor();
        let mut rng = SmallRng::seed_from_u64(tally.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let user = rng.random_range(0..VISITORS);
        let device = Device::ALL[rng.random_range(0..Device::ALL.len())];
        let geo = Geo::ALL[rng.random_range(0..Geo::ALL.len())];
        Self {
            rng,
            number,
            tally: Arc::clone(tally),
            user: id(&format!("goose-{user}")),
            session: id(&format!("{}-s{number}", tally.run())),
            device,
            geo,
            page: None,
            opened: None,
            events: 0,
        }
    }

    /// Asks for a page and tells what was seen of the one before.
    pub(crate) async fn visit(
        &mut self,
        user: &mut GooseUser,
        page: PageType,
        query: Option<&str>,
    ) -> TransactionResult {
        let item = self.opened.take().filter(|_| page == PageType::Product);
        // A product page needs a product: who clicked nothing looks at the shop's front once more.
        let page = if page == PageType::Product && item.is_none() { PageType::Home } else { page };
        let ask = Ask {
            user: &self.user,
            session: &self.session,
            device: self.device,
            geo: self.geo,
            page,
            limit: LIMIT,
            item: item.as_ref(),
            query,
        };
        let name = format!("page {page}");
        let body = ask.to_json();
        let (mut request, text) = read(self.send(user, "/v1/personalize", &name, body, 200).await?).await;
        self.page = None;
        let Some(text) = text else { return Ok(()) };
        match Page::parse(&text, LIMIT) {
            Ok(page) => self.page = Some(page),
            Err(reason) => return user.set_failure(&reason, &mut request, None, Some(&text)),
        }
        self.look(user).await
    }

    /// An impression of every slot, and clicks that thin out by position.
    async fn look(&mut self, user: &mut GooseUser) -> TransactionResult {
        let Some(page) = self.page.clone() else { return Ok(()) };
        let mut acts = Vec::new();
        for (position, item) in page.items.iter().enumerate() {
            acts.push(self.act(EventKind::Impression, item, position, None));
        }
        let chosen = (0..page.items.len()).find(|position| self.rng.random_bool(0.4 / (1.0 + *position as f64)));
        if let Some(position) = chosen {
            let item = &page.items[position];
            acts.push(self.act(EventKind::Click, item, position, None));
            let seconds = self.rng.random_range(2.0..60.0);
            acts.push(self.act(EventKind::Dwell, item, position, Some(seconds)));
            self.opened = Some(item.clone());
        }
        self.tell(user, &page, &acts).await
    }

    /// Buys the first item of the page.
    pub(crate) async fn buy(&mut self, user: &mut GooseUser) -> TransactionResult {
        let Some(page) = self.page.clone() else { return Ok(()) };
        let cents = self.rng.random_range(100..20_000) as f32;
        let act = self.act(EventKind::Conversion, &page.items[0], 0, Some(cents));
        self.tell(user, &page, &[act]).await
    }

    /// Asks why the first item of the page is there.
    pub(crate) async fn ask_why(&mut self, user: &mut GooseUser) -> TransactionResult {
        let Some(page) = &self.page else { return Ok(()) };
        let path = format!("/v1/explain?request_id={}&item_id={}", page.request, page.items[0]);
        let request = user.get_request_builder(&GooseMethod::Get, &path)?;
        let request = GooseRequest::builder().name("explain").path(path.as_str()).set_request_builder(request).build();
        let (mut request, text) = read(user.request(request).await?).await;
        let Some(text) = text else { return Ok(()) };
        let explained = serde_json::from_str::<Explanation>(&text);
        if explained.is_ok_and(|why| !why.text.is_empty() && !why.reasons.is_empty()) {
            return Ok(());
        }
        user.set_failure("no explanation", &mut request, None, Some(&text))
    }

    fn act(&mut self, kind: EventKind, item: &ItemId, position: usize, value: Option<f32>) -> Act {
        self.events += 1;
        let name = format!("{}-{}-{}", self.tally.run(), self.number, self.events);
        Act { id: id(&name), kind, item: item.clone(), position, value }
    }

    async fn tell(&mut self, user: &mut GooseUser, page: &Page, acts: &[Act]) -> TransactionResult {
        let Ok(body) = batch(&self.user, page.request, acts, SystemTime::now()) else { return Ok(()) };
        self.tally.sent(acts.len());
        for attempt in 0..TRIES {
            let (_, text) = read(self.send(user, "/v1/feedback", "feedback", body.clone(), 202).await?).await;
            if let Some(receipt) = text.and_then(|text| serde_json::from_str::<Receipt>(&text).ok()) {
                self.tally.answered(receipt.accepted + receipt.duplicates, receipt.rejected.len());
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(250 << attempt)).await;
        }
        Ok(())
    }

    async fn send(
        &mut self,
        user: &mut GooseUser,
        path: &str,
        name: &str,
        body: String,
        status: u16,
    ) -> Result<GooseResponse, Box<TransactionError>> {
        let trace = format!("00-{:032x}-{:016x}-01", self.rng.random::<u128>() | 1, self.rng.random::<u64>() | 1);
        let request = user
            .get_request_builder(&GooseMethod::Post, path)?
            .header("content-type", "application/json")
            .header("traceparent", trace)
            .header("baggage", format!("synthetic_request=true,session.id={}", self.session))
            .body(body);
        let request = GooseRequest::builder()
            .method(GooseMethod::Post)
            .path(path)
            .name(name)
            .expect_status_code(status)
            .set_request_builder(request)
            .build();
        user.request(request).await
    }
}

/// The body of an answer that counts as one. Goose has counted the failure of the others.
async fn read(answer: GooseResponse) -> (GooseRequestMetric, Option<String>) {
    let GooseResponse { request, response } = answer;
    let text = match response {
        Ok(response) if request.success => response.text().await.ok(),
        _ => None,
    };
    (request, text)
}
