//! The figures of a run, for people and for programs.

/// Named figures in their order.
#[derive(Debug, Default)]
pub(super) struct Report(Vec<(&'static str, Figure)>);

#[derive(Clone, Debug)]
enum Figure {
    Text(String),
    Count(u64),
    /// With its unit, and so many digits behind the point.
    Measure(f64, &'static str, usize),
}

impl Report {
    pub(super) fn text(&mut self, name: &'static str, value: impl Into<String>) {
        self.0.push((name, Figure::Text(value.into())));
    }

    pub(super) fn count(&mut self, name: &'static str, value: u64) {
        self.0.push((name, Figure::Count(value)));
    }

    pub(super) fn measure(&mut self, name: &'static str, value: f64, unit: &'static str, digits: usize) {
        self.0.push((name, Figure::Measure(value, unit, digits)));
    }

    /// One figure a line.
    pub(super) fn table(&self) -> String {
        let line = |(name, figure): &(&str, Figure)| match figure {
            Figure::Text(text) => format!("{name:<34}{text:>16}\n"),
            Figure::Count(count) => format!("{name:<34}{:>16}\n", grouped(*count)),
            Figure::Measure(value, unit, digits) => format!("{name:<34}{value:>16.digits$} {unit}\n"),
        };
        self.0.iter().map(line).collect()
    }

    /// One JSON object; the names have underscores for spaces, and end with the unit.
    pub(super) fn json(&self) -> String {
        let entry = |(name, figure): &(&str, Figure)| match figure {
            // The texts are names of this program's own, without anything to escape.
            Figure::Text(text) => format!("\"{}\":\"{text}\"", key(name, "")),
            Figure::Count(count) => format!("\"{}\":{count}", key(name, "")),
            Figure::Measure(value, unit, digits) if value.is_finite() => {
                format!("\"{}\":{value:.digits$}", key(name, unit))
            }
            Figure::Measure(_, unit, _) => format!("\"{}\":null", key(name, unit)),
        };
        format!("{{{}}}\n", self.0.iter().map(entry).collect::<Vec<_>>().join(","))
    }
}

fn key(name: &str, unit: &str) -> String {
    let unit = unit.replace("/s", "per_s").replace('%', "percent");
    let name = name.replace([' ', '-'], "_");
    if unit.is_empty() {
        name
    } else {
        format!("{name}_{unit}")
    }
}

/// With a comma behind each group of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    groups.map(String::from_utf8_lossy).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_printed() {
        let mut report = Report::default();
        report.text("shape", "p2p");
        report.count("messages sent", 1_234_567);
        report.measure("rate", 2.345, "/s", 1);
        report.measure("latency p99", f64::NAN, "us", 1);
        assert_eq!(
            report.json(),
            "{\"shape\":\"p2p\",\"messages_sent\":1234567,\"rate_per_s\":2.3,\"latency_p99_us\":null}\n"
        );
        assert!(report.table().contains("       1,234,567\n"));
        assert_eq!(
            (grouped(0), grouped(999), grouped(1000)),
            ("0".into(), "999".into(), "1,000".into())
        );
    }
}
