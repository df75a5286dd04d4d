//! How exactly an image is named.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pin {
    /// By what is in it.
    Digest,
    /// By a version, which its owner could push again.
    Version,
    /// By a tag that moves, or by none.
    Moving,
}

/// `[HOST[:PORT]/]NAME[:TAG][@sha256:...]`.
pub(super) fn of(image: &str) -> Pin {
    if let Some((_, digest)) = image.rsplit_once('@') {
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        let is_digest = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        return if is_digest { Pin::Digest } else { Pin::Moving };
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    let version = last.split_once(':').map(|(_, tag)| tag.split('-').next().unwrap_or_default());
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    // Three numbers: 3.5 moves from one patch to the next.
    let is_version = version.is_some_and(|version| {
        let version = version.strip_prefix('v').unwrap_or(version);
        version.split('.').count() >= 3 && version.split('.').all(is_number)
    });
    if is_version { Pin::Version } else { Pin::Moving }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_digests_are_pins() {
        let digest = format!("prom/prometheus@sha256:{}", "0a".repeat(32));
        for (image, pin) in [
            (digest.as_str(), Pin::Digest),
            ("prom/prometheus:v3.5.3", Pin::Version),
            ("docker.io/library/redis:7.0.15-bookworm", Pin::Version),
            ("localhost:5000/attune:0.1.0", Pin::Version),
            ("prom/prometheus", Pin::Moving),
            ("localhost:5000/attune", Pin::Moving),
            ("prom/prometheus:latest", Pin::Moving),
            ("prom/prometheus:v3.5", Pin::Moving),
            ("gcr.io/distroless/cc-debian12:nonroot", Pin::Moving),
            ("prom/prometheus@sha256:0a", Pin::Moving),
        ] {
            assert_eq!(of(image), pin, "{image}");
        }
    }
}
