//! What k6 says of each moment of a run: its CSV lines, gathered by second.

use anyhow::Context as _;
use std::collections::BTreeMap;
use std::io::BufRead;

/// Rungs of the ladder of degradation, 0 to 5.
pub(crate) const LEVELS: usize = 6;

#[derive(Debug, Default, Clone)]
pub(crate) struct Second {
    /// Milliseconds of the pages that ended in it.
    pub(crate) pages: Vec<f32>,
    pub(crate) page_failures: u32,
    pub(crate) feedback: u32,
    pub(crate) feedback_failures: u32,
    pub(crate) explanations: u32,
    pub(crate) listing: u32,
    pub(crate) listing_hits: u32,
    pub(crate) answers: u32,
    pub(crate) hits: u32,
    pub(crate) levels: [u32; LEVELS],
    pub(crate) dropped: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Series {
    /// By Unix time.
    seconds: BTreeMap<i64, Second>,
    /// When a page of the phase was seen first, in seconds from the begin.
    phases: BTreeMap<i64, String>,
}

/// The columns that are read, by their places.
struct Columns {
    metric: usize,
    time: usize,
    value: usize,
    name: usize,
    expected: usize,
    tags: usize,
}

impl Columns {
    fn of(head: &str) -> anyhow::Result<Self> {
        let place = |name: &str| {
            head.split(',').position(|column| column == name).with_context(|| format!("k6's CSV has no column {name}"))
        };
        Ok(Self {
            metric: place("metric_name")?,
            time: place("timestamp")?,
            value: place("metric_value")?,
            name: place("name")?,
            expected: place("expected_response")?,
            tags: place("extra_tags")?,
        })
    }
}

impl Series {
    /// To the end of the stream.
    pub(crate) fn read(lines: impl BufRead) -> anyhow::Result<Self> {
        let mut lines = lines.lines();
        let mut series = Self::default();
        let Some(head) = lines.next().transpose().context("read k6's samples")? else { return Ok(series) };
        let columns = Columns::of(&head)?;
        for line in lines {
            let line = line.context("read k6's samples")?;
            series.add(&columns, &line.split(',').collect::<Vec<_>>()).with_context(|| format!("read {line:?}"))?;
        }
        Ok(series)
    }

    fn add(&mut self, columns: &Columns, cells: &[&str]) -> anyhow::Result<()> {
        let cell = |place: usize| cells.get(place).copied().unwrap_or_default();
        let metric = cell(columns.metric);
        if !matches!(metric, "http_req_duration" | "edge_hits" | "page_level" | "dropped_iterations") {
            return Ok(());
        }
        let time: i64 = cell(columns.time).parse().context("a time")?;
        let value: f64 = cell(columns.value).parse().context("a value")?;
        let tag = |name: &str| cell(columns.tags).split('&').find_map(|tag| tag.strip_prefix(name)?.strip_prefix('='));
        let second = self.seconds.entry(time).or_default();
        let failed = u32::from(cell(columns.expected) != "true");
        match (metric, cell(columns.name)) {
            ("http_req_duration", "personalize") => {
                second.pages.push(value as f32);
                second.page_failures += failed;
                if let Some(phase) = tag("phase")
                    && self.phases.values().all(|known| known != phase)
                {
                    self.phases.insert(time, phase.to_owned());
                }
            }
            ("http_req_duration", "feedback") => {
                second.feedback += 1;
                second.feedback_failures += failed;
            }
            ("http_req_duration", "explain") => second.explanations += 1,
            ("edge_hits", _) => {
                let hit = u32::from(value > 0.0);
                second.answers += 1;
                second.hits += hit;
                if tag("kind") == Some("listing") {
                    second.listing += 1;
                    second.listing_hits += hit;
                }
            }
            ("page_level", _) => second.levels[(value as usize).min(LEVELS - 1)] += 1,
            ("dropped_iterations", _) => second.dropped += value as u32,
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn begin(&self) -> i64 {
        self.seconds.keys().next().copied().unwrap_or(0)
    }

    /// From the begin, every second of the run in turn, also those in which nothing ended.
    pub(crate) fn seconds(&self) -> Vec<Second> {
        let Some(last) = self.seconds.keys().next_back() else { return Vec::new() };
        (self.begin()..=*last).map(|time| self.seconds.get(&time).cloned().unwrap_or_default()).collect()
    }

    /// Seconds from the begin at which each phase begins. Phases of the same name count once.
    pub(crate) fn phases(&self) -> Vec<(f64, &str)> {
        self.phases.iter().map(|(time, name)| ((time - self.begin()) as f64, name.as_str())).collect()
    }
}

/// The value below which the share `q` of the values lies; None without values. Sorts them.
pub(crate) fn quantile(values: &mut [f32], q: f64) -> Option<f32> {
    values.sort_unstable_by(f32::total_cmp);
    let last = values.len().checked_sub(1)?;
    Some(values[(q * last as f64).round() as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_gathered_by_second() {
        let csv = "metric_name,timestamp,metric_value,check,error_code,expected_response,name,scenario,status,extra_tags,metadata\n\
                   http_req_duration,100,12.5,,,true,personalize,pages,200,phase=warm,\n\
                   http_req_duration,102,7.5,,1211,false,personalize,pages,0,phase=measured,\n\
                   http_req_duration,102,3,,,true,feedback,pages,202,phase=measured,\n\
                   edge_hits,102,1,,,,,pages,,page=home&kind=listing&phase=measured,\n\
                   edge_hits,102,0,,,,,pages,,kind=directed&phase=measured,\n\
                   page_level,102,4,,,,,pages,,phase=measured,\n\
                   vus,102,3,,,,,,,,\n";
        let series = Series::read(csv.as_bytes()).unwrap();
        let seconds = series.seconds();
        assert_eq!(seconds.len(), 3, "the silent second counts");
        assert_eq!((seconds[0].pages.as_slice(), seconds[0].page_failures), ([12.5].as_slice(), 0));
        let last = &seconds[2];
        assert_eq!((last.page_failures, last.feedback, last.feedback_failures), (1, 1, 0));
        assert_eq!((last.answers, last.hits, last.listing, last.listing_hits), (2, 1, 1, 1));
        assert_eq!(last.levels, [0, 0, 0, 0, 1, 0]);
        assert_eq!(series.phases(), [(0.0, "warm"), (2.0, "measured")]);
    }

    #[test]
    fn other_csv_is_refused() {
        assert!(Series::read("a,b\n1,2\n".as_bytes()).is_err());
        let broken = "metric_name,timestamp,metric_value,name,expected_response,extra_tags\nedge_hits,soon,1,,,\n";
        assert!(Series::read(broken.as_bytes()).is_err());
    }

    #[test]
    fn quantiles_are_values() {
        assert_eq!(quantile(&mut [], 0.5), None);
        assert_eq!(quantile(&mut [3.0, 1.0, 2.0], 0.5), Some(2.0));
        assert_eq!(quantile(&mut [3.0, 1.0, 2.0], 0.99), Some(3.0));
    }
}
