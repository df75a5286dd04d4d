//! Every method of ours with the name of its SERVER span, so that names are constants and label sets closed.

/// What the layers know about a method.
#[derive(Debug)]
pub struct Method {
    /// Request path: `/package.Service/Method`.
    pub path: &'static str,
    /// Which service answers it, and thereby counts it.
    pub owner: &'static str,
    /// Name of the SERVER span.
    pub span: &'static str,
    /// Label value in the request metrics.
    pub endpoint: &'static str,
    /// A stream that stays open: no span, no latency, no deadline.
    pub long_lived: bool,
    /// Its traces are of class LLM.
    pub llm: bool,
}

impl Method {
    /// Name of the CLIENT span, and the convention's `rpc.method`.
    pub fn full_name(&self) -> &'static str {
        &self.path[1..]
    }

    pub(crate) fn find_full(name: &str) -> Option<&'static Self> {
        METHODS.iter().find(|method| method.full_name() == name)
    }

    pub fn find(path: &str) -> Option<&'static Self> {
        METHODS.iter().find(|method| method.path == path)
    }
}

const fn method(owner: &'static str, path: &'static str, span: &'static str, endpoint: &'static str) -> Method {
    Method { path, owner, span, endpoint, long_lived: false, llm: false }
}

/// The endpoint of calls to methods that are not in the table.
pub(crate) const OTHER: &str = "other";

/// A test holds this against the protos.
pub const METHODS: &[Method] = &[
    method("origin", "/attune.origin.v1.OriginService/Personalize", "api.personalize", "/personalize"),
    method("origin", "/attune.origin.v1.OriginService/GetCandidateSet", "api.candidate_set", "/candidate_set"),
    method("origin", "/attune.origin.v1.OriginService/GetUserView", "api.user_view", "/user_view"),
    method("origin", "/attune.origin.v1.OriginService/Feedback", "api.feedback", "/feedback"),
    Method { long_lived: true, ..method("origin", "/attune.origin.v1.OriginService/Watch", "api.watch", "/watch") },
    method("origin", "/attune.origin.v1.OriginService/AppendDecisions", "api.append_decisions", "/append_decisions"),
    method("origin", "/attune.origin.v1.OriginService/GetDecision", "api.get_decision", "/get_decision"),
    method("origin", "/attune.origin.v1.OriginService/GetObject", "api.get_object", "/get_object"),
    method("origin", "/attune.origin.v1.OriginService/ListDecisions", "api.list_decisions", "/list_decisions"),
    method("origin", "/attune.origin.v1.OriginService/Explain", "api.explain", "/explain"),
    method("origin", "/attune.origin.v1.OriginService/PutItem", "api.put_item", "/put_item"),
    method("origin", "/attune.origin.v1.OriginService/DeleteItem", "api.delete_item", "/delete_item"),
    method("origin", "/attune.origin.v1.OriginService/PutUser", "api.put_user", "/put_user"),
    method("origin", "/attune.origin.v1.OriginService/EraseUser", "api.erase_user", "/erase_user"),
    method("retrieval", "/attune.retrieval.v1.RetrievalService/Retrieve", "retrieval.candidates", "retrieve"),
    method("ranking", "/attune.ranking.v1.RankingService/Rank", "ranking.score", "rank"),
    method("ranking", "/attune.ranking.v1.RankingService/Attribute", "ranking.attribute", "attribute"),
    method("bandit", "/attune.bandit.v1.BanditService/Sample", "bandit.sample", "sample"),
    Method { llm: true, ..method("llm", "/attune.llm.v1.LlmService/Reason", "llm.reason", "reason") },
    Method {
        long_lived: true,
        ..method("origin", "/attune.telemetry.v1.DecisionBusService/Publish", "bus.publish", "/bus_publish")
    },
    Method {
        long_lived: true,
        ..method("origin", "/attune.telemetry.v1.DecisionBusService/Subscribe", "bus.subscribe", "/bus_subscribe")
    },
    method("origin", "/attune.storage.v1.EventLogService/Append", "event_log.append", "/log_append"),
    method("origin", "/attune.storage.v1.EventLogService/Read", "event_log.read", "/log_read"),
    method("origin", "/attune.storage.v1.EventLogService/Ends", "event_log.ends", "/log_ends"),
    method("origin", "/attune.storage.v1.EventLogService/OffsetAt", "event_log.offset_at", "/log_offset_at"),
    method("origin", "/attune.storage.v1.EventLogService/ForgetDedup", "event_log.forget_dedup", "/log_forget_dedup"),
    method("origin", "/attune.storage.v1.EventLogService/EraseKey", "event_log.erase_key", "/log_erase_key"),
    method("embedder", "/attune.storage.v1.FeatureStoreService/LoadUsers", "feature_store.load_users", "load_users"),
    method("embedder", "/attune.storage.v1.FeatureStoreService/Posteriors", "feature_store.posteriors", "posteriors"),
    method("embedder", "/attune.storage.v1.FeatureStoreService/Progress", "feature_store.progress", "progress"),
    method(
        "embedder",
        "/attune.storage.v1.FeatureStoreService/LoadOutcomes",
        "feature_store.load_outcomes",
        "load_outcomes",
    ),
    method("embedder", "/attune.storage.v1.FeatureStoreService/Fences", "feature_store.fences", "fences"),
    method("embedder", "/attune.storage.v1.FeatureStoreService/Apply", "feature_store.apply", "apply"),
    method(
        "embedder",
        "/attune.storage.v1.FeatureStoreService/ForgetOutcomes",
        "feature_store.forget_outcomes",
        "forget_outcomes",
    ),
    method("embedder", "/attune.storage.v1.FeatureStoreService/UserCount", "feature_store.user_count", "user_count"),
];
