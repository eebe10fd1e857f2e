//! The escapes of JSON, dotenv, shells and URLs: what a few bytes of a text may mean beside themselves.

/// What begins at a place of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escape {
    /// Nothing but the byte itself.
    None,
    /// The text ends before it can be told.
    Cut,
    /// So many bytes, and what they mean.
    Means(usize, Meaning),
}

/// Up to four bytes: a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meaning {
    bytes: [u8; 4],
    length: usize,
}

impl Meaning {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Escape {
    /// The longest one: two `\uXXXX`.
    pub(super) const MAX_LENGTH: usize = 12;

    /// What begins at the beginning of `text`.
    pub(super) fn read(text: &[u8]) -> Self {
        match text {
            [b'%', rest @ ..] => hex_byte(1, rest),
            [b'\\'] | [b'$'] | [b'\''] | [b'\'', b'\\'] | [b'\'', b'\\', b'\''] => Self::Cut,
            [b'\\', b'u', rest @ ..] => unicode(rest),
            [b'\\', b'x', rest @ ..] => hex_byte(2, rest),
            [b'\\', c, ..] => {
                let letter = match c {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'f' => 0x0c,
                    other => *other,
                };
                means(2, &[letter])
            }
            [b'$', b'$', ..] => means(2, b"$"),
            [b'\'', b'\\', b'\'', b'\'', ..] => means(4, b"'"),
            [b'+', ..] => means(1, b" "),
            _ => Self::None,
        }
    }
}

fn means(length: usize, meaning: &[u8]) -> Escape {
    let mut bytes = [0; 4];
    bytes[..meaning.len()].copy_from_slice(meaning);
    Escape::Means(length, Meaning { bytes, length: meaning.len() })
}

/// Two digits after a sign of `before` bytes.
fn hex_byte(before: usize, rest: &[u8]) -> Escape {
    match hex(rest, 2) {
        Ok(byte) => means(before + 2, &byte.to_le_bytes()[..1]),
        Err(escape) => escape,
    }
}

/// `\uXXXX`, or a pair of them; `rest` is what follows the first `\u`.
fn unicode(rest: &[u8]) -> Escape {
    let first = match hex(rest, 4) {
        Ok(first) => first,
        Err(escape) => return escape,
    };
    let mut units = vec![first];
    if (0xd800..0xdc00).contains(&first) {
        let second = match &rest[4..] {
            [] | [b'\\'] => return Escape::Cut,
            [b'\\', b'u', rest @ ..] => hex(rest, 4),
            _ => Err(Escape::None),
        };
        match second {
            Ok(second) => units.push(second),
            Err(escape) => return escape,
        }
    }
    match char::decode_utf16(units.iter().copied()).next() {
        Some(Ok(letter)) => means(units.len() * 6, letter.encode_utf8(&mut [0; 4]).as_bytes()),
        _ => Escape::None,
    }
}

/// So many digits, or why there aren't.
fn hex(text: &[u8], digits: usize) -> Result<u16, Escape> {
    let shown = &text[..text.len().min(digits)];
    let value = shown.iter().try_fold(0u16, |value, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(value * 16 + u16::try_from(digit).ok()?)
    });
    match value {
        None => Err(Escape::None),
        Some(_) if shown.len() < digits => Err(Escape::Cut),
        Some(value) => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_is_read_or_cut_off_or_none() {
        let reads = |text: &str, length: usize, meaning: &str| {
            assert_eq!(Escape::read(text.as_bytes()), means(length, meaning.as_bytes()), "{text}");
            for end in 1..length {
                assert_eq!(Escape::read(&text.as_bytes()[..end]), Escape::Cut, "{text} up to {end}");
            }
        };
        reads("%41b", 3, "A");
        reads("\\x41b", 4, "A");
        reads("\\nb", 2, "\n");
        reads("\\\\b", 2, "\\");
        reads("\\u00e9b", 6, "é");
        reads("\\ud83d\\ude00b", 12, "😀");
        reads("$$b", 2, "$");
        reads("'\\''b", 4, "'");
        for text in ["a", "%4x", "%x", "\\u00x", "\\xg", "$a", "'a", "'\\a", "\\ud83dx", "\\ud83d\\n", "\\ude00"] {
            assert_eq!(Escape::read(text.as_bytes()), Escape::None, "{text}");
        }
    }
}
