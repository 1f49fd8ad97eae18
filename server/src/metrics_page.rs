//! Figures as Prometheus reads them (text format 0.0.4). Knows how a figure is written, not which there are.

use std::fmt::{Display, Write as _};

/// The media type of the page.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The page in the making: families of figures, each with its help and type.
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
}

impl Page {
    /// Appends a figure that only grows; its name ends in `_total`.
    pub(crate) fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help, [(None, value)]);
    }

    /// Appends a figure that goes up and down.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help, [(None, value)]);
    }

    /// Appends the figures of one name: each with the name and value of its label, if it has one. `kind` is
    /// `counter` or `gauge`.
    pub(crate) fn family<'a, V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Option<(&'a str, &'a str)>, V)>,
    ) {
        debug_assert!(is_name(name), "{name} is no name of a metric");
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (label, value) in samples {
            self.text.push_str(name);
            if let Some((label, of)) = label {
                let of = of.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                let _ = write!(self.text, "{{{label}=\"{of}\"}}");
            }
            let _ = writeln!(self.text, " {value}");
        }
    }

    /// The whole page.
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The figures of the process that tell an operator most: what it is, since when, and how much memory it
/// holds.
pub(crate) fn write_process(page: &mut Page) {
    let version = Some(("version", env!("CARGO_PKG_VERSION")));
    page.family("stentor_build_info", "gauge", "Always 1; the version is the label.", [(version, 1)]);
    if let Some(bytes) = resident_bytes() {
        page.gauge("process_resident_memory_bytes", "Memory that the process holds, in bytes.", bytes);
    }
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_has_its_help_and_type_before_its_figures() {
        let mut page = Page::default();
        page.counter("stentor_published_total", "Events published.", 3);
        let samples = [(Some(("transport", "sse")), 1), (Some(("transport", "poll")), 2)];
        page.family("stentor_subscribers", "gauge", "Subscribers.", samples);
        assert_eq!(
            page.into_text(),
            "# HELP stentor_published_total Events published.\n\
             # TYPE stentor_published_total counter\n\
             stentor_published_total 3\n\
             # HELP stentor_subscribers Subscribers.\n\
             # TYPE stentor_subscribers gauge\n\
             stentor_subscribers{transport=\"sse\"} 1\n\
             stentor_subscribers{transport=\"poll\"} 2\n"
        );
    }

    #[test]
    fn what_would_end_a_line_or_a_label_is_escaped() {
        let mut page = Page::default();
        page.family("a_total", "counter", "back\\slash\nline", [(Some(("l", "q\"b\\n\n")), 1.5)]);
        assert_eq!(
            page.into_text(),
            "# HELP a_total back\\\\slash\\nline\n# TYPE a_total counter\na_total{l=\"q\\\"b\\\\n\\n\"} 1.5\n"
        );
    }

    #[test]
    fn the_process_says_what_memory_it_holds() {
        let mut page = Page::default();
        write_process(&mut page);
        let text = page.into_text();
        let line = text.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
        assert!(line.unwrap().parse::<u64>().unwrap() > 100_000, "{text}");
        assert!(text.contains("stentor_build_info{version=\""));
    }
}
