//! Results in JUnit's XML, as CI systems read them.

use std::fmt::Write as _;

use super::report::{Report, Went};

/// The document.
pub fn text(report: &Report) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let (tests, failures, errors) = (report.cases.len(), report.failed, report.unknown);
    let mut line = |text: &str| {
        xml.push_str(text);
        xml.push('\n');
    };
    line(&format!("<testsuite name=\"policy\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\">"));
    for outcome in &report.cases {
        let name = escaped(&outcome.case);
        if outcome.result == Went::Passed {
            line(&format!("  <testcase classname=\"policy\" name=\"{name}\"/>"));
            continue;
        }
        let mut what = String::new();
        for difference in &outcome.differences {
            let _ = writeln!(what, "{}: expected {}, got {}", difference.field, difference.expected, difference.got);
        }
        for question in &outcome.missing {
            let _ = writeln!(what, "not recorded: {question}");
        }
        let element = if outcome.result == Went::Failed { "failure" } else { "error" };
        line(&format!("  <testcase classname=\"policy\" name=\"{name}\">"));
        line(&format!("    <{element}>{}</{element}>", escaped(what.trim_end())));
        line("  </testcase>");
    }
    line("</testsuite>");
    xml
}

/// Text without what XML takes for its own, or does not take at all.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push('\n'),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_others_wrote_ends_an_element() {
        assert_eq!(escaped("a<b>&\"c\"\u{1b}[31m\nd"), "a&lt;b&gt;&amp;&quot;c&quot; [31m\nd");
    }
}
