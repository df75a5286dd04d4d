//! What a dashboard consists of.

#[derive(Debug)]
pub(crate) struct Dashboard {
    /// Of the file, and of the `dashboard` annotation of alerts.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) description: &'static str,
    pub(crate) rows: Vec<Row>,
}

impl Dashboard {
    pub(crate) fn panels(&self) -> impl Iterator<Item = &Panel> {
        self.rows.iter().flat_map(|row| &row.panels)
    }
}

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) title: &'static str,
    pub(crate) panels: Vec<Panel>,
}

pub(super) fn row(title: &'static str, panels: Vec<Panel>) -> Row {
    Row { title, panels }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    Stat,
    /// A stat whose text is the series' name.
    Name,
    Graph,
}

#[derive(Debug)]
pub(crate) struct Panel {
    /// Unique in its dashboard; alerts and runbooks name it.
    pub(crate) title: &'static str,
    pub(crate) description: &'static str,
    pub(crate) view: View,
    /// In Grafana's words.
    pub(crate) unit: &'static str,
    /// Of 24 columns.
    pub(crate) width: u32,
    pub(crate) queries: Vec<Query>,
    /// Where a colour begins; below the first it is the base colour.
    pub(crate) colours: Option<(&'static str, Vec<(f64, &'static str)>)>,
    /// Words for 0 and 1.
    pub(crate) words: Option<[&'static str; 2]>,
}

#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) expr: String,
    pub(crate) legend: &'static str,
}

pub(super) fn query(legend: &'static str, expr: impl Into<String>) -> Query {
    Query { expr: expr.into(), legend }
}

pub(super) fn stat(title: &'static str, unit: &'static str, description: &'static str, queries: Vec<Query>) -> Panel {
    Panel { title, description, view: View::Stat, unit, width: 6, queries, colours: None, words: None }
}

pub(super) fn graph(title: &'static str, unit: &'static str, description: &'static str, queries: Vec<Query>) -> Panel {
    Panel { title, description, view: View::Graph, unit, width: 12, queries, colours: None, words: None }
}

impl Panel {
    pub(super) fn width(self, width: u32) -> Self {
        Self { width, ..self }
    }

    pub(super) fn name(self) -> Self {
        Self { view: View::Name, ..self }
    }

    pub(super) fn words(self, zero: &'static str, one: &'static str) -> Self {
        Self { words: Some([zero, one]), ..self }
    }

    /// Good below the first bound, bad from the second.
    pub(super) fn low_is_good(self, warning: f64, critical: f64) -> Self {
        Self { colours: Some(("green", vec![(warning, "orange"), (critical, "red")])), ..self }
    }

    /// Bad below the first bound, good from the second.
    pub(super) fn high_is_good(self, critical: f64, warning: f64) -> Self {
        Self { colours: Some(("red", vec![(critical, "orange"), (warning, "green")])), ..self }
    }
}
