//! What visitors come for. Each journey begins with somebody else.

use crate::tally::Tally;
use crate::visitor::Visitor;
use attune_domain::PageType;
use goose::prelude::*;
use std::sync::Arc;
use std::time::Duration;

/// Between two pages.
const THINK: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(2));

#[derive(Debug, Clone, Copy)]
enum Step {
    Arrive,
    Page(PageType, Option<&'static str>),
    AskWhy,
    Buy,
}

/// Name, share of the users, and the way.
const JOURNEYS: [(&str, usize, &[Step]); 4] = [
    (
        "browse",
        5,
        &[
            Step::Arrive,
            Step::Page(PageType::Home, None),
            Step::Page(PageType::Product, None),
            Step::Page(PageType::Home, None),
            Step::Page(PageType::Home, None),
        ],
    ),
    (
        "search",
        3,
        &[
            Step::Arrive,
            Step::Page(PageType::Search, Some("blue night")),
            Step::Page(PageType::Product, None),
            Step::Page(PageType::Search, Some("classic")),
        ],
    ),
    (
        "buy",
        1,
        &[
            Step::Arrive,
            Step::Page(PageType::Home, None),
            Step::Page(PageType::Product, None),
            Step::Page(PageType::Cart, None),
            Step::Buy,
        ],
    ),
    ("wonder", 1, &[Step::Arrive, Step::Page(PageType::Home, None), Step::AskWhy]),
];

pub(crate) fn all(tally: &Arc<Tally>) -> Result<Vec<Scenario>, GooseError> {
    JOURNEYS
        .into_iter()
        .map(|(name, weight, steps)| {
            let mut scenario = Scenario::new(name).set_weight(weight)?.set_wait_time(THINK.0, THINK.1)?;
            for (number, step) in steps.iter().enumerate() {
                let transaction = transaction(*step, tally).set_name(&format!("{name} {}", number + 1));
                scenario = scenario.register_transaction(transaction.set_sequence(number + 1));
            }
            Ok(scenario)
        })
        .collect()
}

fn transaction(step: Step, tally: &Arc<Tally>) -> Transaction {
    let tally = Arc::clone(tally);
    Transaction::new(Arc::new(move |user| {
        let tally = Arc::clone(&tally);
        Box::pin(async move {
            // Taken out and put back, because a visitor and goose's user are both changed by a step.
            let known = user.get_session_data::<Visitor>().cloned();
            let mut visitor =
                known.filter(|_| !matches!(step, Step::Arrive)).unwrap_or_else(|| Visitor::arrive(&tally));
            let done = match step {
                Step::Arrive => Ok(()),
                Step::Page(page, query) => visitor.visit(user, page, query).await,
                Step::AskWhy => visitor.ask_why(user).await,
                Step::Buy => visitor.buy(user).await,
            };
            user.set_session_data(visitor);
            done
        })
    }))
}
