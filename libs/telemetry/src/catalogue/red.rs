//! Requests, errors, durations, concurrency: the same four metrics for every service; and stages, for those that have
//! them.

use super::Service::{Bandit, Edge, Embedder, Llm, Origin, Ranking, Retrieval};
use super::{Entry, LLM_LATENCY_BUCKETS, LabelKey, Metric, Service, Unit, counter, gauge, histogram, latency};
use crate::grpc::{CODES, METHODS, http_status, is_failure};
use crate::{Counter, Gauge, Histogram};
use tonic::Code;

/// Of a service that speaks gRPC, by endpoint.
pub struct RedEntries {
    pub requests: Entry<Counter>,
    pub errors: Entry<Counter>,
    pub latency: Entry<Histogram>,
    pub concurrent: Entry<Gauge>,
}

pub struct StageEntries {
    pub duration: Entry<Histogram>,
    pub outcomes: Entry<Counter>,
}

fn error_codes() -> Vec<&'static str> {
    CODES.into_iter().filter(|code| is_failure(*code)).map(crate::grpc::code_name).collect()
}

/// A back-end that is out of quota fails the explanation, although the service answers with its template.
fn llm_error_codes() -> Vec<&'static str> {
    let mut codes = error_codes();
    codes.push(crate::grpc::code_name(Code::ResourceExhausted));
    codes
}

/// HTTP statuses that the codes map to.
fn statuses() -> Vec<&'static str> {
    let mut statuses: Vec<&str> = CODES.into_iter().map(status_text).collect();
    statuses.sort_unstable();
    statuses.dedup();
    statuses
}

/// [`http_status`] as a label's text.
pub(crate) fn status_text(code: Code) -> &'static str {
    match http_status(code) {
        200 => "200",
        401 => "401",
        403 => "403",
        404 => "404",
        409 => "409",
        412 => "412",
        422 => "422",
        429 => "429",
        499 => "499",
        501 => "501",
        503 => "503",
        504 => "504",
        _ => "500",
    }
}

fn endpoints(owner: &str) -> Vec<&'static str> {
    let owned = METHODS.iter().filter(|method| method.owner == owner).map(|method| method.endpoint);
    owned.chain([crate::grpc::OTHER]).collect()
}

macro_rules! red {
    ($($entries:ident: $prefix:literal of $service:ident ($owner:literal, $codes:path, $buckets:expr);)+) => {
        $(static $entries: RedEntries = RedEntries {
            requests: counter(
                concat!($prefix, "_requests_total"), Unit::Count, "Requests, by the HTTP status of their outcome."
            )
                .labels(&[LabelKey::of("endpoint", || endpoints($owner)), LabelKey::of("status_code", statuses)])
                .by(&[$service]),
            errors: counter(
                concat!($prefix, "_errors_total"), Unit::Count, "Requests that failed through our fault."
            )
                .labels(&[LabelKey::of("endpoint", || endpoints($owner)), LabelKey::of("code", $codes)])
                .by(&[$service]),
            latency: histogram(
                concat!($prefix, "_latency_seconds"), Unit::Seconds, $buckets, "Duration of requests."
            )
                .labels(&[LabelKey::of("endpoint", || endpoints($owner))])
                .by(&[$service]),
            concurrent: gauge(concat!($prefix, "_concurrent_requests"), Unit::Count, "Requests in progress.")
                .labels(&[LabelKey::of("endpoint", || endpoints($owner))])
                .by(&[$service]),
        };)+

        /// The request metrics of a service; none for the edge, whose visitors speak HTTP.
        pub fn red(service: Service) -> Option<&'static RedEntries> {
            match service {
                $($service => Some(&$entries),)+
                Edge => None,
            }
        }
    };
}
red! {
    API: "api" of Origin ("origin", error_codes, super::LATENCY_BUCKETS);
    RETRIEVAL: "retrieval" of Retrieval ("retrieval", error_codes, super::LATENCY_BUCKETS);
    RANKING: "ranking" of Ranking ("ranking", error_codes, super::LATENCY_BUCKETS);
    BANDIT: "bandit" of Bandit ("bandit", error_codes, super::LATENCY_BUCKETS);
    LLM: "llm" of Llm ("llm", llm_error_codes, LLM_LATENCY_BUCKETS);
    EMBEDDER: "embedder" of Embedder ("embedder", error_codes, super::LATENCY_BUCKETS);
}

const STAGE: LabelKey = LabelKey::list("stage", &["context.build", "api.retrieve", "api.rank", "api.sample"]);

static API_STAGES: StageEntries = StageEntries {
    duration: latency("api_stage_duration_seconds", "Duration of a page's stages.").labels(&[STAGE]).by(&[Origin]),
    outcomes: counter("api_stage_outcomes_total", Unit::Count, "Stages of pages, by outcome.")
        .labels(&[STAGE, LabelKey::list("outcome", &["ok", "late", "failed"])])
        .by(&[Origin]),
};

/// The stage metrics of a service that runs its requests in stages.
pub fn stages(service: Service) -> Option<&'static StageEntries> {
    (service == Origin).then_some(&API_STAGES)
}

pub(super) fn all() -> Vec<&'static Metric> {
    let red = [Origin, Retrieval, Ranking, Bandit, Llm, Embedder].into_iter().filter_map(red);
    let red = red.flat_map(|entries| [&*entries.requests, &*entries.errors, &*entries.latency, &*entries.concurrent]);
    red.chain([&*API_STAGES.duration, &*API_STAGES.outcomes]).collect()
}
