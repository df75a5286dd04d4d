//! A dashboard as Grafana imports it.

use super::panel::{Dashboard, Panel, View};
use attune_telemetry::catalogue::names::EDGE_CACHE_SIZE;
use serde_json::{Value, json};

/// Grafana's grid is this wide.
const COLUMNS: u32 = 24;

pub(super) fn json(dashboard: &Dashboard) -> Value {
    let mut panels = Vec::new();
    let (mut id, mut y) = (0, 0);
    for row in &dashboard.rows {
        id += 1;
        panels.push(json!({
            "id": id, "type": "row", "title": row.title, "collapsed": false, "panels": [],
            "gridPos": { "x": 0, "y": y, "w": COLUMNS, "h": 1 },
        }));
        y += 1;
        let (mut x, mut tallest) = (0, 0);
        for panel in &row.panels {
            let height = if panel.view == View::Graph { 8 } else { 4 };
            if x + panel.width > COLUMNS {
                (x, y) = (0, y + tallest);
                tallest = 0;
            }
            id += 1;
            panels.push(panel_json(panel, id, json!({ "x": x, "y": y, "w": panel.width, "h": height })));
            x += panel.width;
            tallest = tallest.max(height);
        }
        y += tallest;
    }
    json!({
        "uid": format!("attune-{}", dashboard.name),
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["attune"],
        "schemaVersion": 39,
        "editable": false,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": { "from": "now-6h", "to": "now" },
        "timezone": "browser",
        "links": [{
            "type": "dashboards", "title": "Attune", "tags": ["attune"], "asDropdown": true, "includeVars": true,
            "keepTime": true,
        }],
        "templating": { "list": variables() },
        "panels": panels,
    })
}

fn variables() -> Vec<Value> {
    let values = |name: &str, label: &str, query: String| {
        json!({
            "type": "query", "name": name, "label": label, "datasource": datasource(), "refresh": 2, "sort": 1,
            "query": { "query": query, "refId": name }, "definition": query,
            "includeAll": true, "multi": true, "allValue": ".*",
            "current": { "text": "All", "value": "$__all" },
        })
    };
    vec![
        json!({ "type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus" }),
        values("region", "Region", "label_values(up, region)".into()),
        values("job", "Job", "label_values(up{region=~\"$region\"}, job)".into()),
        values("instance", "Instance", "label_values(up{region=~\"$region\", job=~\"$job\"}, instance)".into()),
        values("pop", "PoP", format!("label_values({}{{region=~\"$region\"}}, pop)", EDGE_CACHE_SIZE.name)),
    ]
}

fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

fn panel_json(panel: &Panel, id: u32, place: Value) -> Value {
    let targets: Vec<Value> = panel
        .queries
        .iter()
        .enumerate()
        .map(|(index, query)| {
            let buckets = query.expr.contains("histogram_quantile");
            json!({
                "refId": format!("Q{index}"), "datasource": datasource(), "editorMode": "code",
                "expr": query.expr, "legendFormat": query.legend,
                "range": panel.view == View::Graph, "instant": panel.view != View::Graph,
                "exemplar": buckets && panel.view == View::Graph,
            })
        })
        .collect();
    let mut defaults = json!({ "unit": panel.unit, "color": { "mode": "palette-classic" } });
    if let Some((base, steps)) = &panel.colours {
        let base = json!({ "value": null, "color": base });
        let steps = steps.iter().map(|(value, colour)| json!({ "value": value, "color": colour }));
        defaults["thresholds"] =
            json!({ "mode": "absolute", "steps": std::iter::once(base).chain(steps).collect::<Vec<_>>() });
        if panel.view != View::Graph {
            defaults["color"] = json!({ "mode": "thresholds" });
        }
    }
    if let Some([zero, one]) = panel.words {
        defaults["mappings"] = json!([{
            "type": "value", "options": { "0": { "text": zero, "color": "red" }, "1": { "text": one, "color": "green" } },
        }]);
    }
    let options = match panel.view {
        View::Stat | View::Name => json!({
            "reduceOptions": { "calcs": ["lastNotNull"] },
            "textMode": if panel.view == View::Name { "name" } else { "auto" },
            "colorMode": if panel.colours.is_some() || panel.words.is_some() { "background" } else { "value" },
        }),
        View::Graph => json!({
            "legend": { "displayMode": "list", "placement": "bottom" },
            "tooltip": { "mode": "multi", "sort": "desc" },
        }),
    };
    json!({
        "id": id,
        "type": if panel.view == View::Graph { "timeseries" } else { "stat" },
        "title": panel.title,
        "description": panel.description,
        "datasource": datasource(),
        "gridPos": place,
        "fieldConfig": { "defaults": defaults, "overrides": [] },
        "options": options,
        "targets": targets,
    })
}
