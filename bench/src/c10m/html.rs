//! A report as a page to look at: nothing in it is fetched from anywhere.

use std::fmt::Write as _;

use super::report::{Bar, Figure, Report, Sample, number};

const STYLE: &str = "
:root { color-scheme: light dark; --line: #0a6; --grid: #8884; --soft: #888; --bad: #c33 }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse } td { padding: .15rem .8rem .15rem 0 } td.n { text-align: right }
.missed, .failed { color: var(--bad); font-weight: 600 } .soft { color: var(--soft) }
svg { width: 100%; height: auto; overflow: visible } svg text { font-size: 11px; fill: var(--soft) }
polyline { fill: none; stroke: var(--line); stroke-width: 1.5 } line { stroke: var(--grid) }
";

/// What a line shows of a sample.
type Value = fn(&Sample) -> f64;

/// The page.
pub fn page(report: &Report) -> String {
    let mut page = String::new();
    let title = format!("{} of {}", report.scenario, report.target);
    let _ = write!(
        page,
        "<!doctype html><html lang=en><meta charset=utf-8><title>{0}</title>\
         <style>{STYLE}</style><h1>{0}</h1><p>{1}<br><code>{2}</code></p>",
        escaped(&title),
        escaped(&report.machine),
        escaped(&report.command)
    );
    for line in &report.honesty {
        let _ = write!(page, "<p class=soft>{}</p>", escaped(line));
    }
    for reason in &report.client_limited {
        let _ = write!(page, "<p class=missed>Limited by its clients: {}</p>", escaped(reason));
    }
    if let Some(failure) = &report.failure {
        let _ = write!(page, "<p class=failed>Failed: {}</p>", escaped(failure));
    }
    page += "<h2>Figures</h2><table>";
    for figure in &report.figures {
        page += &row(figure);
    }
    page += "</table><h2>Over time</h2>";
    let charts: [(&str, Value); 8] = [
        ("Connections", |sample| sample.connections),
        ("Deliveries a second", |sample| sample.deliveries),
        ("Memory of the server, MiB", |sample| sample.server_memory),
        ("Free memory of the machine, MiB", |sample| sample.free_memory),
        ("Processors in use, whole machine", |sample| sample.machine_cpu),
        ("Processors that the host took", |sample| sample.stolen_cpu),
        ("Processors in use by the server", |sample| sample.server_cpu),
        ("Slowest delivery, ms", |sample| sample.slowest),
    ];
    for (title, value) in charts {
        page += &chart(title, &report.samples, value);
    }
    let latencies: Vec<_> =
        report.figures.iter().filter(|figure| figure.name.starts_with("latency")).collect();
    if !latencies.is_empty() {
        page += "<h2>Publish to delivery</h2>";
        page += &bars(&latencies);
    }
    page + "</html>\n"
}

fn row(Figure { name, value, unit, bar }: &Figure) -> String {
    let (class, said) = match bar {
        None => ("", String::new()),
        Some(bar) => {
            let class = if bar.is_kept(*value) { "soft" } else { "missed" };
            let said = match bar {
                Bar::AtMost(bar) => format!("at most {}", number(*bar)),
                Bar::AtLeast(bar) => format!("at least {}", number(*bar)),
            };
            (class, said)
        }
    };
    let (name, value, unit) = (escaped(name), number(*value), escaped(unit));
    format!("<tr><td>{name}<td class=n>{value}<td>{unit}<td class=\"{class}\">{said}</tr>")
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 140.0;

/// A line over time, from 0 up to its highest.
fn chart(title: &str, samples: &[Sample], value: Value) -> String {
    let end = samples.last().map_or(1.0, |sample| sample.at).max(1e-9);
    let top = samples.iter().map(value).fold(0.0, f64::max);
    let scale = if top > 0.0 { top } else { 1.0 };
    let mut points = String::new();
    for sample in samples {
        let (x, y) = (sample.at / end * WIDTH, HEIGHT - value(sample) / scale * HEIGHT);
        let _ = write!(points, "{x:.1},{y:.1} ");
    }
    format!(
        "<h3>{title}</h3><svg viewBox=\"-70 -10 {} {}\" role=img aria-label=\"{title}\">\
         <line x1=0 y1={HEIGHT} x2={WIDTH} y2={HEIGHT} /><line x1=0 y1=0 x2={WIDTH} y2=0 />\
         <text x=-8 y=4 text-anchor=end>{}</text><text x=-8 y={HEIGHT} text-anchor=end>0</text>\
         <text x={WIDTH} y={} text-anchor=end>{} s</text><polyline points=\"{points}\" /></svg>",
        WIDTH + 80.0,
        HEIGHT + 35.0,
        number(top),
        HEIGHT + 16.0,
        number(end),
    )
}

/// A bar for each figure, on one scale.
fn bars(figures: &[&Figure]) -> String {
    let top = figures.iter().map(|figure| figure.value).fold(1e-9, f64::max);
    let mut svg = format!("<svg viewBox=\"0 0 800 {}\" role=img>", figures.len() * 24);
    for (index, figure) in figures.iter().enumerate() {
        let (y, width) = (index * 24, figure.value / top * 480.0);
        let _ = write!(
            svg,
            "<text x=0 y={}>{}</text><rect x=170 y={} width={width:.1} height=14 fill=\"var(--line)\" />\
             <text x={:.1} y={}>{} {}</text>",
            y + 14,
            escaped(&figure.name),
            y + 3,
            width + 178.0,
            y + 14,
            number(figure.value),
            escaped(&figure.unit),
        );
    }
    svg + "</svg>"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::Judgement;

    #[test]
    fn a_page_says_what_was_missed_and_lets_no_text_become_markup() {
        let mut report = Report {
            scenario: "idle".into(),
            command: "c10m <idle>".into(),
            version: "0".into(),
            started: 0,
            machine: "two cores".into(),
            target: "stentor".into(),
            honesty: vec!["clients: 2 ghosts".into()],
            client_limited: Vec::new(),
            figures: Vec::new(),
            samples: vec![Sample::default(), Sample { at: 1.0, connections: 5.0, ..Sample::default() }],
            judgement: Judgement::default(),
            failure: None,
        };
        report.figure("kernel memory", 5.0, "KB", Some(Bar::AtMost(4.25)));
        let page = page(&report);
        assert!(page.contains("class=\"missed\">at most 4.25"), "{page}");
        assert!(page.contains("c10m &lt;idle>") && !page.contains("<idle>"));
        assert!(page.contains("720.0,0.0"), "the highest value stands at the top");
        for address in ["http://", "https://", "src="] {
            assert!(!page.contains(address), "nothing is fetched");
        }
    }
}
