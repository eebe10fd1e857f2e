//! How plain text is written where some characters mean something.

/// Characters that mean something in Telegram's MarkdownV2.
const MARKDOWN_V2: &str = r"_*[]()~`>#+-=|{}.!\";
/// What calls everybody in chats that take Slack's webhooks.
const CALLS: [&str; 4] = ["@channel", "@here", "@all", "@everyone"];

/// Text in Telegram's MarkdownV2.
pub(super) fn markdown_v2(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        if MARKDOWN_V2.contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// Text in Slack's form. It calls nobody.
pub(super) fn slack(text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    CALLS.iter().fold(escaped, |text, call| text.replace(call, &call.replace('@', "@\u{200b}")))
}

/// What a text takes in Slack's form, in characters.
pub(super) fn slack_length(text: &str) -> usize {
    slack(text).chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_that_means_something_is_escaped() {
        assert_eq!(markdown_v2("a_b*c [x](y) 1.0!"), r"a\_b\*c \[x\]\(y\) 1\.0\!");
        assert_eq!(markdown_v2("~`>#+-=|{}\\"), r"\~\`\>\#\+\-\=\|\{\}\\");
        assert_eq!(slack("<!channel> a && b > c"), "&lt;!channel&gt; a &amp;&amp; b &gt; c");
        assert_eq!(slack("@channel"), "@\u{200b}channel");
    }
}
