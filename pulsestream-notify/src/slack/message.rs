//! The JSON of a Slack message.
//!
//! Source: Slack's reference of incoming webhooks, Block Kit and mrkdwn. In mrkdwn everything that does something - links, mentions of
//! people, `<!channel>`, `<!here>` - starts with `<`; Slack asks to write `&`, `<` and `>` as entities, and then a text is only a
//! text. `verbatim` keeps Slack from turning words such as `@here` or URLs into links by itself.

use pulsestream_core::alerting::NotificationKind;
use pulsestream_core::ports::notifier::Notification;
use serde::Serialize;

use crate::report::{cut, is_direction_mark};
use crate::text::{MAX_ALERTS, facts, identity, left_out};

// Slack takes 3,000 characters in a section and 50 blocks; escaping makes a character five at most.
const MAX_SECTION_BYTES: usize = 2_900;
const MAX_TITLE_BYTES: usize = 500;
const MAX_FACT_BYTES: usize = 400;

#[derive(Serialize)]
struct Message {
    text: String,
    blocks: Vec<Block>,
    unfurl_links: bool,
    unfurl_media: bool,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block {
    Section { text: Mrkdwn },
    Context { elements: Vec<Mrkdwn> },
}

#[derive(Serialize)]
struct Mrkdwn {
    r#type: &'static str,
    text: String,
    verbatim: bool,
}

impl Mrkdwn {
    fn new(text: String) -> Self {
        Self { r#type: "mrkdwn", text, verbatim: true }
    }
}

/// Writes the body.
///
/// # Errors
/// What `serde_json` says; it has no reason to.
pub(super) fn write(notification: &Notification) -> serde_json::Result<Vec<u8>> {
    let content = &notification.delivery.content;
    let title = format!("{} *{}*", icon(content.kind), escape(&content.title, MAX_TITLE_BYTES));
    let mut blocks =
        vec![section(format!("{title}\n{}", escape(&content.message, MAX_SECTION_BYTES - title.len() - 1)))];
    for alert in content.alerts.iter().take(MAX_ALERTS) {
        let mut text = format!(
            "*{}*: {}",
            escape(&alert.rule_name, MAX_FACT_BYTES),
            escape(&alert.summary, MAX_FACT_BYTES)
        );
        for (name, value) in facts(alert) {
            let line = format!("\n{}: {}", escape(name, 100), escape(&value, MAX_FACT_BYTES));
            if text.len() + line.len() > MAX_SECTION_BYTES {
                break;
            }
            text.push_str(&line);
        }
        blocks.push(section(text));
    }
    let mut footer = vec![Mrkdwn::new(escape(&identity(notification), MAX_FACT_BYTES))];
    if left_out(content) > 0 {
        footer.insert(0, Mrkdwn::new(format!("{} more alerts", left_out(content))));
    }
    blocks.push(Block::Context { elements: footer });
    serde_json::to_vec(&Message {
        // What notifications of the system and old clients show.
        text: escape(&content.title, MAX_TITLE_BYTES),
        blocks,
        unfurl_links: false,
        unfurl_media: false,
    })
}

fn section(text: String) -> Block {
    Block::Section { text: Mrkdwn::new(text) }
}

fn icon(kind: NotificationKind) -> &'static str {
    match kind {
        NotificationKind::Firing | NotificationKind::Repeat => ":red_circle:",
        NotificationKind::Resolved => ":large_green_circle:",
        NotificationKind::NoData => ":white_circle:",
        NotificationKind::Test | NotificationKind::Operational => ":information_source:",
    }
}

/// Writes a text so that Slack shows it and does nothing with it, in at most `max_bytes` bytes.
pub(super) fn escape(text: &str, max_bytes: usize) -> String {
    const WIDEST: usize = "&amp;".len();
    let mut escaped = String::with_capacity(text.len().min(max_bytes));
    let is_shown = |char: &char| (!char.is_control() || *char == '\n') && !is_direction_mark(*char);
    // Cut before escaping, so that no entity is cut in two; and again where entities made it longer.
    for char in cut(text, max_bytes).chars().filter(is_shown) {
        if escaped.len() + WIDEST > max_bytes {
            break;
        }
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn commands_of_slack_become_texts() {
        for text in
            ["<!channel>", "<!here|x>", "<@U123>", "<#C1>", "<http://evil.example|Click>", "<mailto:a@b|c>"]
        {
            let escaped = escape(text, 100);
            assert!(!escaped.contains(['<', '>']), "{escaped}");
        }
        assert_eq!(escape("a < b & c > d", 100), "a &lt; b &amp; c &gt; d");
        assert_eq!(escape("&lt;!channel&gt;", 100), "&amp;lt;!channel&amp;gt;");
    }

    proptest! {
        #[test]
        fn escaped_texts_do_nothing_and_stay_in_their_limit(text in "[<>&!a@|\\n\\x00-\\x1fä\u{202e}]{0,80}", limit in 5_usize..100) {
            let escaped = escape(&text, limit);
            prop_assert!(escaped.len() <= limit);
            let is_active = escaped.contains(['<', '>', '\u{202e}', '\u{0}', '\r']);
            prop_assert!(!is_active);
            let rest = escaped.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "");
            prop_assert!(!rest.contains('&'));
        }
    }
}
