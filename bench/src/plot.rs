//! Plots as SVG, by hand: lines over two logarithmic axes, and bars. They carry their own background and name
//! each line at its end, so that they can be read in light and in dark, and in print.

use std::fmt::Write as _;

/// What a line or a bar is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Stentor.
    Stentor,
    /// A floor.
    Floor,
    /// Another server.
    Other,
}

/// A line of [`lines`].
#[derive(Debug, Clone)]
pub struct Line {
    /// Stands at its end.
    pub name: String,
    /// How it is drawn.
    pub of: Of,
    /// From left to right; both values above 0.
    pub points: Vec<(f64, f64)>,
}

/// A bar of [`bars`], of parts that follow each other.
#[derive(Debug, Clone)]
pub struct Bar {
    /// Stands at its left.
    pub name: String,
    /// How it is drawn.
    pub of: Of,
    /// The value of each part.
    pub parts: Vec<f64>,
}

const WIDTH: f64 = 960.0;
/// Room above the plot for its title.
const TOP: f64 = 64.0;
/// Between the baselines of two names.
const LEADING: f64 = 15.0;
/// Colours of the lines of other servers.
const COLOURS: usize = 8;

/// Light first; then what differs in dark.
const STYLE: &str = "
text{font:12px system-ui,sans-serif;fill:#1f2328}.title{font-size:16px;font-weight:600}.soft{fill:#59636e}
.back{fill:#fff}.grid{stroke:#d1d9e0;stroke-width:1}.line{fill:none;stroke-width:1.8;stroke-linejoin:round}
.stentor{stroke-width:3.2}.floor{stroke:#818b98;stroke-dasharray:2 4}.dashed{stroke-dasharray:7 4}
.c0{stroke:#0969da}.c1{stroke:#bc4c00}.c2{stroke:#1a7f37}.c3{stroke:#8250df}.c4{stroke:#bf3989}
.c5{stroke:#9a6700}.c6{stroke:#0f7f8c}.c7{stroke:#cf222e}.c8{stroke:#57606a}
.b0{fill:#0969da}.b1{fill:#818b98}.b2{fill:#bc4c00}.rest{fill-opacity:.35}
@media (prefers-color-scheme:dark){text{fill:#f0f6fc}.soft{fill:#9198a1}.back{fill:#0d1117}
.grid{stroke:#3d444d}
.c0{stroke:#4493f8}.c1{stroke:#f0883e}.c2{stroke:#3fb950}.c3{stroke:#ab7df8}.c4{stroke:#f778ba}
.c5{stroke:#d29922}.c6{stroke:#39c5cf}.c7{stroke:#f85149}.c8{stroke:#9198a1}
.b0{fill:#4493f8}.b2{fill:#f0883e}}
";

/// Draws lines over two logarithmic axes. The marks of the first axis stand at the values that occur.
pub fn lines(title: &str, below: &str, lines: &[Line]) -> String {
    const LEFT: f64 = 64.0;
    const RIGHT: f64 = 310.0;
    const HEIGHT: f64 = 560.0;
    const BOTTOM: f64 = 56.0;
    let mut xs: Vec<f64> = lines.iter().flat_map(|line| &line.points).map(|&(x, _)| x).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let ys = || lines.iter().flat_map(|line| &line.points).map(|&(_, y)| y);
    let [Some(&x_min), Some(&x_max)] = [xs.first(), xs.last()] else { return picture(title, HEIGHT, "") };
    let marks = marks(ys().fold(f64::INFINITY, f64::min), ys().fold(0.0, f64::max));
    let (y_min, y_max) = (marks[0], marks[marks.len() - 1]);
    let share = |value: f64, min: f64, max: f64| (value / min).ln() / (max / min).ln().max(1e-9);
    let x_of = |x| LEFT + share(x, x_min, x_max) * (WIDTH - LEFT - RIGHT);
    let y_of = |y| HEIGHT - BOTTOM - share(y, y_min, y_max) * (HEIGHT - BOTTOM - TOP);

    let mut body = String::new();
    let (left, right) = (LEFT, WIDTH - RIGHT);
    for &mark in &marks {
        let y = y_of(mark);
        let _ = writeln!(body, r#"<path class="grid" d="M{left} {y:.1}H{right}"/>"#);
        text(&mut body, LEFT - 8.0, y + 4.0, "end", "soft", &number(mark));
    }
    for &x in &xs {
        text(&mut body, x_of(x), HEIGHT - BOTTOM + 20.0, "middle", "soft", &number(x));
    }
    text(&mut body, (LEFT + right) / 2.0, HEIGHT - BOTTOM + 42.0, "middle", "soft", below);
    let mut ends: Vec<(f64, usize)> = Vec::new();
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| !line.points.is_empty()) {
        let mut path = String::new();
        for (at, &(x, y)) in line.points.iter().enumerate() {
            let _ = write!(path, "{}{:.1} {:.1}", if at == 0 { 'M' } else { 'L' }, x_of(x), y_of(y));
        }
        let _ = writeln!(body, r#"<path class="line {}" d="{path}"/>"#, class(lines, index));
        let (_, y) = line.points[line.points.len() - 1];
        ends.push((y_of(y), index));
    }
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let ys: Vec<f64> = ends.iter().map(|&(y, _)| y).collect();
    for (&(end, index), y) in ends.iter().zip(apart(&ys, HEIGHT - 8.0)) {
        let line = &lines[index];
        let (x, _) = line.points[line.points.len() - 1];
        let (from, to) = (x_of(x) + 3.0, right + 26.0);
        let class = class(lines, index);
        let _ = writeln!(body, r#"<path class="line {class}" d="M{from:.1} {end:.1}L{to:.1} {y:.1}"/>"#);
        text(&mut body, to + 6.0, y + 4.0, "start", "", &line.name);
    }
    picture(title, HEIGHT, &body)
}

/// Draws bars beneath each other on a linear axis from 0, each with `say` of its parts at its end.
pub fn bars(title: &str, bars: &[Bar], say: impl Fn(&[f64]) -> String) -> String {
    const LEFT: f64 = 290.0;
    const RIGHT: f64 = 150.0;
    const STEP: f64 = 24.0;
    let sum = |bar: &Bar| bar.parts.iter().sum::<f64>();
    let most = bars.iter().map(sum).fold(f64::MIN_POSITIVE, f64::max);
    let mut body = String::new();
    for (at, bar) in bars.iter().enumerate() {
        let y = TOP - 8.0 + STEP * at as f64;
        text(&mut body, LEFT - 8.0, y + 13.0, "end", "", &bar.name);
        let mut x = LEFT;
        for (part, value) in bar.parts.iter().enumerate() {
            let width = value.max(0.0) / most * (WIDTH - LEFT - RIGHT);
            let (colour, rest) = (bar.of as usize, if part == 0 { "" } else { " rest" });
            let _ = writeln!(
                body,
                r#"<rect class="b{colour}{rest}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="17"/>"#
            );
            x += width;
        }
        text(&mut body, x + 6.0, y + 13.0, "start", "soft", &say(&bar.parts));
    }
    picture(title, TOP + STEP * bars.len() as f64 + 8.0, &body)
}

fn picture(title: &str, height: f64, body: &str) -> String {
    let mut head = String::new();
    text(&mut head, 16.0, 30.0, "start", "title", title);
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">
<title>{}</title>
<style>{STYLE}</style>
<rect class="back" width="{WIDTH}" height="{height}" rx="6"/>
{head}{body}</svg>
"#,
        escaped(title)
    )
}

fn text(body: &mut String, x: f64, y: f64, anchor: &str, class: &str, words: &str) {
    let words = escaped(words);
    let _ = writeln!(
        body,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" class="{class}">{words}</text>"#
    );
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// How a line is drawn. Stentor has one colour, and others after the eighth are dashed.
fn class(lines: &[Line], index: usize) -> String {
    let of = lines[index].of;
    let nth = lines[..index].iter().filter(|line| line.of == of).count();
    let dashed = |is_dashed| if is_dashed { " dashed" } else { "" };
    match of {
        Of::Stentor => format!("stentor c0{}", dashed(lines[index].name.contains("epoll"))),
        Of::Floor => "floor".to_owned(),
        Of::Other => format!("c{}{}", 1 + nth % COLOURS, dashed(nth >= COLOURS)),
    }
}

/// 1, 2 and 5 times powers of ten, from at most `min` to at least `max`.
fn marks(min: f64, max: f64) -> Vec<f64> {
    let decade = 10_f64.powf(min.max(f64::MIN_POSITIVE).log10().floor());
    let all = (0..30).flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * decade * 10_f64.powi(power)));
    let all: Vec<f64> = all.collect();
    let first = all.iter().rposition(|&mark| mark <= min).unwrap_or(0);
    let last = all.iter().position(|&mark| mark >= max).unwrap_or(all.len() - 1).max(first + 1);
    all[first..=last].to_vec()
}

/// Heights that are ascending, moved so that they are [`LEADING`] apart, and at most `bottom`.
fn apart(heights: &[f64], bottom: f64) -> Vec<f64> {
    let mut moved: Vec<f64> = Vec::new();
    for &height in heights {
        moved.push(moved.last().map_or(height, |last| height.max(last + LEADING)));
    }
    let mut limit = bottom;
    for height in moved.iter_mut().rev() {
        *height = height.min(limit);
        limit = *height - LEADING;
    }
    moved
}

/// "64", "200 k", "1.5 M".
pub fn number(value: f64) -> String {
    let (value, unit) = match value {
        1e6.. => (value / 1e6, " M"),
        1e4.. => (value / 1e3, " k"),
        _ => (value, ""),
    };
    if value >= 10.0 || value.fract() == 0.0 {
        format!("{value:.0}{unit}")
    } else {
        format!("{value:.2}{unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_enclose_what_they_mark() {
        assert_eq!(marks(39_000.0, 1_470_000.0), [2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 2e6]);
        assert_eq!(marks(5.0, 5.0), [5.0, 10.0]);
    }

    #[test]
    fn names_never_stand_on_each_other_nor_below_the_picture() {
        let moved = apart(&[10.0, 11.0, 12.0, 95.0, 99.0], 100.0);
        assert!(moved.windows(2).all(|pair| pair[1] - pair[0] >= LEADING), "{moved:?}");
        assert!(moved[4] <= 100.0, "{moved:?}");
    }

    #[test]
    fn a_plot_names_each_line_and_bar_and_escapes_what_has_meaning() {
        let line = |name: &str, of| Line { name: name.to_owned(), of, points: vec![(1.0, 1e5), (64.0, 2e6)] };
        let svg = lines("a < b", "x", &[line("Stentor", Of::Stentor), line("R&D", Of::Other)]);
        assert!(svg.contains("a &lt; b") && svg.contains(">Stentor<") && svg.contains(">R&amp;D<"), "{svg}");
        let bar = Bar { name: "ws".to_owned(), of: Of::Other, parts: vec![3.0, 1.0] };
        let svg = bars("memory", &[bar], |parts| format!("{} B", parts[0]));
        assert!(
            svg.contains(">ws<") && svg.contains(">3 B<") && svg.matches("<rect class=\"b2").count() == 2
        );
        assert!(lines("none", "x", &[]).ends_with("</svg>\n"));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([64.0, 8_123.0, 186_400.0, 1_474_000.0].map(number), ["64", "8123", "186 k", "1.47 M"]);
    }
}
