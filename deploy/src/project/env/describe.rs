//! What a project says about one of its variables: the comment above it in `.env.example`, or else the message that
//! compose would show (`${NAME:?message}`).

use crate::remote::output::plain;

/// Longest description, in characters.
const LONGEST: usize = 300;

/// The description of `name`; `compose` is the project as compose prints it without interpolation.
#[must_use]
pub fn describe(name: &str, example: &str, compose: &str) -> Option<String> {
    let text = example_comment(name, example).or_else(|| compose_message(name, compose))?;
    let text: String = plain(&text).split_whitespace().collect::<Vec<_>>().join(" ").chars().take(LONGEST).collect();
    (!text.is_empty()).then_some(text)
}

fn example_comment(name: &str, example: &str) -> Option<String> {
    let mut comment = Vec::new();
    for line in example.lines().map(str::trim) {
        let assignment = line.trim_start_matches('#').trim_start().strip_prefix(name).map(str::trim_start);
        if let Some(value) = assignment.and_then(|rest| rest.strip_prefix('=')) {
            let behind = value.split_once(" #").map(|(_, text)| text.trim().to_owned());
            let above = (!comment.is_empty()).then(|| comment.join(" "));
            return above.or(behind);
        }
        match line.strip_prefix('#') {
            Some(text) => comment.push(text.trim_start_matches('#').trim()),
            None => comment.clear(),
        }
    }
    None
}

fn compose_message(name: &str, compose: &str) -> Option<String> {
    let mut found = ["${NAME:?", "${NAME?"].iter().filter_map(|form| {
        let (_, rest) = compose.split_once(&form.replace("NAME", name))?;
        Some(rest.split('}').next()?.replace('\\', ""))
    });
    found.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_comment_in_the_example_wins_over_composes_message() {
        let example = "# Payments\n\n# Key of the payment provider,\n#   from its dashboard\nPAY_KEY=\nOTHER=1 # a number\nBARE=\n";
        let compose =
            r#"{"environment": {"A": "${PAY_KEY:?Set PAY_KEY}", "B": "${BARE:?say \"please\"}", "C": "${D}"}}"#;
        let of = |name| describe(name, example, compose);
        assert_eq!(of("PAY_KEY").as_deref(), Some("Key of the payment provider, from its dashboard"));
        assert_eq!(of("OTHER").as_deref(), Some("a number"));
        assert_eq!(of("BARE").as_deref(), Some("say \"please\""));
        assert_eq!(of("D"), None);
        assert_eq!(of("KEY"), None, "a part of a name is another name");
    }
}
