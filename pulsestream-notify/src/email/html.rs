//! The HTML form of a notification.

use pulsestream_core::ports::notifier::Notification;

use crate::report::is_direction_mark;
use crate::text::{MAX_ALERTS, facts, identity, left_out};

/// Writes a notification as HTML, without scripts, links, images or styles from elsewhere.
pub(super) fn write(notification: &Notification) -> String {
    let content = &notification.delivery.content;
    let mut html = String::from("<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>");
    html.push_str(&escape(&content.title));
    html.push_str("</title></head>\n<body style=\"font-family: sans-serif\">\n<h2>");
    html.push_str(&escape(&content.title));
    html.push_str("</h2>\n<p style=\"white-space: pre-line\">");
    html.push_str(&escape(&content.message));
    html.push_str("</p>\n");
    for alert in content.alerts.iter().take(MAX_ALERTS) {
        let (name, summary) = (escape(&alert.rule_name), escape(&alert.summary));
        html.push_str(&format!("<h3>{name}</h3>\n<p>{summary}</p>\n<table>\n"));
        for (name, value) in facts(alert) {
            let (name, value) = (escape(name), escape(&value));
            html.push_str(&format!("<tr><th align=\"left\">{name}</th><td>{value}</td></tr>\n"));
        }
        html.push_str("</table>\n");
    }
    if left_out(content) > 0 {
        html.push_str(&format!("<p>{} more alerts</p>\n", left_out(content)));
    }
    html.push_str(&format!("<p><small>{}</small></p>\n</body></html>\n", escape(&identity(notification))));
    html
}

/// Writes a text as the content of an element or a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(char),
            char if char.is_control() || is_direction_mark(char) => escaped.push(' '),
            char => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_becomes_text() {
        assert_eq!(
            escape("<script>alert(\"x\")</script> & 'y'\u{202e}\r\n"),
            "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; &#39;y&#39;  \n"
        );
    }
}
