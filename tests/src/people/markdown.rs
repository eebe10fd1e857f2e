//! Telegram's MarkdownV2, as far as bold text goes: what isn't escaped as its documentation demands can't be parsed.

const RESERVED: &str = "_*[]()~`>#+-=|{}.!";

/// A text as it's shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Shown {
    pub text: String,
    /// Its bold parts.
    pub bold: Vec<String>,
}

/// Reads a text in MarkdownV2.
///
/// # Errors
/// Telegram's own words.
pub(super) fn parse(source: &str) -> Result<Shown, String> {
    let (mut shown, mut open, mut chars) = (Shown::default(), None::<(usize, usize)>, source.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some((_, escaped)) if escaped.is_ascii() && escaped as u32 > 0 && !escaped.is_ascii_alphanumeric() => {
                    shown.text.push(escaped);
                }
                Some((_, other)) => {
                    shown.text.push('\\');
                    shown.text.push(other);
                }
                None => shown.text.push('\\'),
            },
            '*' => match open.take() {
                Some((start, _)) => {
                    if start == shown.text.len() {
                        return Err(format!("Can't find end of Bold entity at byte offset {at}"));
                    }
                    shown.bold.push(shown.text[start..].to_owned());
                }
                None => open = Some((shown.text.len(), at)),
            },
            c if RESERVED.contains(c) => {
                return Err(format!("Character '{c}' is reserved and must be escaped with the preceding '\\'"));
            }
            c => shown.text.push(c),
        }
    }
    match open {
        Some((_, at)) => Err(format!("Can't find end of Bold entity at byte offset {at}")),
        None => Ok(shown),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_is_escaped_is_shown_and_what_is_not_is_refused() {
        let shown = parse(r"*a\.b* c\-d \\").unwrap();
        assert_eq!((shown.text.as_str(), shown.bold.as_slice()), (r"a.b c-d \", ["a.b".to_owned()].as_slice()));
        for wrong in ["a.b", "*open", "a_b", "**", "x!"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
