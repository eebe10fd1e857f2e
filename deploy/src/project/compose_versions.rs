//! Versions of Docker Compose that read valid projects wrongly. Each is named, so that nobody looks for the fault in the
//! project. No I/O.

use super::health_check::version;

/// Whom a bug hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hit {
    /// Each project, by what Slipway itself asks of Compose.
    Everybody,
    /// Projects that use `extends`: it refuses them.
    Extending,
    /// Projects that use `extends`: it starts something else.
    ExtendingInSilence,
}

/// A bug, from the first version that has it up to the one that mends it.
struct ComposeBug {
    since: (u32, u32, u32),
    mended: (u32, u32, u32),
    hit: Hit,
    does: &'static str,
}

const BUGS: [ComposeBug; 3] = [
    ComposeBug {
        since: (2, 27, 1),
        mended: (2, 27, 2),
        hit: Hit::Everybody,
        does: "ignores --env-file, and would start the project without its variables",
    },
    ComposeBug {
        since: (2, 29, 0),
        mended: (2, 29, 1),
        hit: Hit::Extending,
        does: "takes variables in the volumes of a service that is extended for names of volumes",
    },
    ComposeBug {
        since: (2, 32, 0),
        mended: (2, 33, 0),
        hit: Hit::ExtendingInSilence,
        does: "loses depends_on and volumes_from of a service with extends",
    },
];

/// Why no project can be deployed with this version; none where there's no reason.
pub(crate) fn bug_for_everybody(compose: &str) -> Option<String> {
    describe(compose, Hit::Everybody)
}

/// Why this version may refuse a valid project with `extends`; none where there's no reason.
pub(crate) fn bug_for_extending(compose: &str) -> Option<String> {
    describe(compose, Hit::Extending)
}

/// What this version loses of a project with `extends`; none where it loses nothing.
pub(crate) fn bug_in_silence(compose: &str) -> Option<String> {
    describe(compose, Hit::ExtendingInSilence)
}

fn describe(compose: &str, hit: Hit) -> Option<String> {
    let (major, minor) = version(compose);
    let patch = compose.split('.').nth(2).unwrap_or_default();
    let patch = patch.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    let version = (major, minor, patch.parse().unwrap_or(0));
    let bug = BUGS.iter().find(|bug| bug.hit == hit && (bug.since..bug.mended).contains(&version))?;
    let (major, minor, patch) = bug.mended;
    Some(format!("the server has Docker Compose {compose}, which {}; {major}.{minor}.{patch} mends it", bug.does))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_read_valid_projects_wrongly_are_named_with_the_one_that_mends_them() {
        for (compose, everybody, extends) in [
            ("2.26.0", false, false),
            ("2.26.1-4", false, false),
            ("v2.27.1-desktop.1", true, false),
            ("2.29.0", false, true),
            ("2.29.1", false, false),
            ("2.32.4", false, true),
            ("2.33.0", false, false),
            ("v5.5.0", false, false),
            ("", false, false),
        ] {
            let extending = |compose| bug_for_extending(compose).or_else(|| bug_in_silence(compose)).is_some();
            let found = (bug_for_everybody(compose).is_some(), extending(compose));
            assert_eq!(found, (everybody, extends), "{compose}");
        }
        assert_eq!(
            bug_for_extending("2.29.0").as_deref(),
            Some(
                "the server has Docker Compose 2.29.0, which takes variables in the volumes of a service that is \
                 extended for names of volumes; 2.29.1 mends it"
            )
        );
    }
}
