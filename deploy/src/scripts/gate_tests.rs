//! What the stability gate makes of what Docker shows at one look after the other, in a real shell.
#![expect(clippy::expect_used, reason = "tests")]

use std::fs;

use super::tests::shell;

/// A line for a container of `web`, `a1`, or of something else, `b2`.
fn line(container: char) -> &'static str {
    match container {
        's' => "web running starting 0 0 2026-01-01T00:00:00Z a/b unless-stopped a1 0/0/0\n",
        'h' => "web running healthy 0 0 2026-01-01T00:00:00Z a/b unless-stopped a1 0/0/0\n",
        'b' => "bot running - 0 0 2026-01-01T00:00:00Z a/b unless-stopped b2 0/0/0\n",
        'm' => "migrate exited - 0 0 2026-01-01T00:00:00Z a/b no b2 0/0/0\n",
        _ => "",
    }
}

/// The verdict on both containers that are seen like that, look after look; the last look lasts.
fn verdict(looks: &str) -> String {
    let place = tempfile::tempdir().expect("a folder");
    for (number, look) in looks.split(' ').enumerate() {
        fs::write(place.path().join(number.to_string()), look.chars().map(line).collect::<String>()).expect("a file");
    }
    let text = format!(
        "cd {}; patience=60; echo 0 >next; sleep() {{ :; }}; sh() {{ return 1; }}\n\
         docker() {{ read -r look <next; cat $look; [ ! -e $((look + 1)) ] || echo $((look + 1)) >next; }}\n\
         settle a1 b2; echo \"$answer\"",
        place.path().display()
    );
    shell(&["service_report.sh", "stability_gate.sh"], &text).trim_end().to_owned()
}

#[test]
fn a_container_that_goes_while_it_is_watched_is_missed() {
    for (looks, expected) in [
        ("sb hb", "ok"),
        ("sb h", "gone bot b2"),
        ("sb b hb", "ok"),
        ("h", "gone - b2"),
        // Whoever tidies up takes away what has done its work.
        ("sm h", "ok"),
        // The daemon was away.
        ("sb - - - - - - hb", "ok"),
    ] {
        assert_eq!(verdict(looks), expected, "{looks}");
    }
}
