//! Plots as SVG in the page: lines over a horizontal axis, and shares that fill the height.

use std::fmt::Write as _;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 28.0;
pub(crate) const COLOURS: [&str; 6] = ["#2a7f62", "#8fbf5f", "#e8c547", "#ea8c3a", "#d1495b", "#5c4b7d"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// From zero.
    Linear,
    /// By powers of ten.
    Logarithmic,
}

pub(crate) struct Line {
    pub(crate) name: String,
    /// Where there is no value, the line is broken.
    pub(crate) points: Vec<(f64, Option<f64>)>,
}

pub(crate) struct Plot<'a> {
    pub(crate) title: &'a str,
    pub(crate) scale: Scale,
    /// The least upper end of the vertical axis.
    pub(crate) at_least: f64,
    /// The least right end of the horizontal axis.
    pub(crate) until: f64,
    /// Words at places of the horizontal axis, below it.
    pub(crate) ticks: Vec<(f64, String)>,
    /// Words at places of the horizontal axis, with a line through the plot.
    pub(crate) marks: Vec<(f64, String)>,
    /// A bound, drawn across.
    pub(crate) bound: Option<f64>,
}

impl Plot<'_> {
    pub(crate) fn lines(&self, lines: &[Line]) -> String {
        let values = || lines.iter().flat_map(|line| line.points.iter().filter_map(|(_, y)| *y));
        let top = values().fold(self.at_least, f64::max);
        let low = match self.scale {
            Scale::Linear => 0.0,
            Scale::Logarithmic => 10f64.powf(values().fold(top, f64::min).max(1e-3).log10().floor()),
        };
        let top = match self.scale {
            Scale::Linear => nice(top),
            Scale::Logarithmic => 10f64.powf(top.log10().ceil()).max(low * 10.0),
        };
        let (from, to) = self.extent(lines.iter().flat_map(|line| line.points.iter().map(|(x, _)| *x)));
        let x = |value: f64| across(value, from, to);
        let y = |value: f64| {
            let share = match self.scale {
                Scale::Linear => value / top,
                Scale::Logarithmic => (value.max(low) / low).log10() / (top / low).log10(),
            };
            HEIGHT - BOTTOM - share.clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
        };
        let mut svg = self.frame(&rungs(self.scale, low, top), x, y);
        for (line, colour) in lines.iter().zip(COLOURS) {
            let mut path = String::new();
            let mut pen_is_down = false;
            for (at, value) in &line.points {
                if let Some(value) = value {
                    let _ = write!(path, "{}{:.1} {:.1}", if pen_is_down { "L" } else { "M" }, x(*at), y(*value));
                }
                pen_is_down = value.is_some();
            }
            let _ = write!(svg, r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>"#);
        }
        if let Some(bound) = self.bound {
            let _ = write!(
                svg,
                r##"<line x1="{LEFT}" x2="{}" y1="{1:.1}" y2="{1:.1}" stroke="#b00" stroke-dasharray="4 3"/>"##,
                WIDTH - RIGHT,
                y(bound)
            );
        }
        svg + &legend(lines.iter().map(|line| line.name.as_str())) + "</svg>\n"
    }

    /// Shares of each moment, one above the other; a moment without any is empty.
    pub(crate) fn shares(&self, names: &[&str], moments: &[(f64, Vec<f64>)]) -> String {
        let (from, to) = self.extent(moments.iter().map(|(x, _)| *x));
        let x = |value: f64| across(value, from, to);
        let y = |share: f64| HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
        let mut svg = self.frame(&[0.0, 0.25, 0.5, 0.75, 1.0], x, y);
        let ends = moments.iter().skip(1).map(|(at, _)| *at).chain([to]);
        for ((at, parts), end) in moments.iter().zip(ends) {
            let width = x(end) - x(*at);
            let all: f64 = parts.iter().sum();
            let mut below = 0.0;
            for (part, colour) in parts.iter().zip(COLOURS).filter(|(part, _)| **part > 0.0) {
                let share = part / all;
                let (left, upper, height) = (x(*at), y(below + share), y(below) - y(below + share));
                let _ = write!(
                    svg,
                    r#"<rect x="{left:.1}" y="{upper:.1}" width="{width:.2}" height="{height:.1}" fill="{colour}"/>"#
                );
                below += share;
            }
        }
        svg + &legend(names.iter().copied()) + "</svg>\n"
    }

    fn extent(&self, xs: impl Iterator<Item = f64>) -> (f64, f64) {
        let ticks = self.ticks.iter().map(|(x, _)| *x);
        let xs = xs.chain(ticks).chain([self.until]);
        let (from, to) = xs.fold((f64::MAX, f64::MIN), |(from, to), x| (from.min(x), to.max(x)));
        if from < to { (from, to) } else { (0.0, 1.0) }
    }

    fn frame(&self, rungs: &[f64], x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) -> String {
        let mut svg = format!(
            "<h3>{}</h3>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" xmlns=\"http://www.w3.org/2000/svg\">",
            escape(self.title)
        );
        for rung in rungs {
            let height = y(*rung);
            let _ = write!(
                svg,
                r##"<line x1="{LEFT}" x2="{}" y1="{height:.1}" y2="{height:.1}" stroke="#ddd"/><text x="{}" y="{:.1}" text-anchor="end">{}</text>"##,
                WIDTH - RIGHT,
                LEFT - 6.0,
                height + 4.0,
                number(*rung)
            );
        }
        for (at, word) in &self.ticks {
            let _ = write!(
                svg,
                r#"<text x="{:.1}" y="{}" text-anchor="middle">{}</text>"#,
                x(*at),
                HEIGHT - 10.0,
                escape(word)
            );
        }
        for (i, (at, word)) in self.marks.iter().enumerate() {
            let (at, height) = (x(*at), TOP + 10.0 + 11.0 * (i % 3) as f64);
            let _ = write!(
                svg,
                r##"<line x1="{at:.1}" x2="{at:.1}" y1="{TOP}" y2="{}" stroke="#999" stroke-dasharray="2 3"/><text x="{:.1}" y="{height}" fill="#666">{}</text>"##,
                HEIGHT - BOTTOM,
                at + 3.0,
                escape(word)
            );
        }
        svg
    }
}

fn across(value: f64, from: f64, to: f64) -> f64 {
    LEFT + (value - from) / (to - from) * (WIDTH - LEFT - RIGHT)
}

fn legend<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut svg = String::new();
    let mut left = LEFT;
    for (name, colour) in names.zip(COLOURS) {
        let _ = write!(
            svg,
            r#"<rect x="{left}" y="4" width="10" height="10" fill="{colour}"/><text x="{}" y="13">{}</text>"#,
            left + 14.0,
            escape(name)
        );
        left += 34.0 + 6.5 * name.len() as f64;
    }
    svg
}

fn rungs(scale: Scale, low: f64, top: f64) -> Vec<f64> {
    match scale {
        Scale::Linear => (0..=4).map(|i| top * f64::from(i) / 4.0).collect(),
        Scale::Logarithmic => {
            std::iter::successors(Some(low), |rung| Some(rung * 10.0)).take_while(|rung| *rung <= top * 1.001).collect()
        }
    }
}

/// The next of 1, 2, 5 times a power of ten.
fn nice(top: f64) -> f64 {
    let power = 10f64.powf(top.max(1e-9).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= top * 0.999).unwrap_or(top)
}

fn number(value: f64) -> String {
    if value == 0.0 || value >= 10.0 { format!("{value:.0}") } else { format!("{}", (value * 1000.0).round() / 1000.0) }
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(scale: Scale) -> Plot<'static> {
        Plot {
            title: "a < b",
            scale,
            at_least: 1.0,
            until: 1.0,
            ticks: Vec::new(),
            marks: Vec::new(),
            bound: Some(100.0),
        }
    }

    #[test]
    fn a_gap_breaks_the_line() {
        let line = Line { name: "p50".to_owned(), points: vec![(0.0, Some(1.0)), (1.0, None), (2.0, Some(10.0))] };
        for scale in [Scale::Linear, Scale::Logarithmic] {
            let svg = plot(scale).lines(std::slice::from_ref(&line));
            assert!(svg.contains("a &lt; b") && svg.ends_with("</svg>\n"));
            let path = svg.split("<path d=\"").nth(1).unwrap().split('"').next().unwrap();
            assert_eq!(path.matches('M').count(), 2, "{path}");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn nothing_to_draw_is_no_fault() {
        for svg in [plot(Scale::Logarithmic).lines(&[]), plot(Scale::Linear).shares(&["0"], &[(0.0, vec![0.0])])] {
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!([nice(0.3), nice(1.0), nice(7.0), nice(130.0)], [0.5, 1.0, 10.0, 200.0]);
    }
}
