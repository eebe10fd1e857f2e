//! Whether a release's images are there for the server's processor, before anything is pulled.

use slipway_protocol::{ErrorCode, Stage};

use super::images::Images;
use crate::project::registry::ImagePlatforms;
use crate::{Attempt, StageError};

impl Attempt {
    /// The platforms whose images the server runs, once preflight has seen what it is.
    pub(super) fn server_platforms(&self) -> Option<&'static [&'static str]> {
        platforms_of(self.left.finished.get(&Stage::Preflight)?.get("system")?.as_str()?)
    }

    /// Refuses images that aren't there for the server's processor. `compose`: the project as compose sees it; whoever names a
    /// platform there means to run another one's.
    ///
    /// # Errors
    /// `wrong-architecture`.
    pub(super) fn check_platforms(&self, images: &Images, compose: &[u8]) -> Result<(), StageError> {
        match self.server_platforms() {
            Some(server) if !String::from_utf8_lossy(compose).contains("\"platform\"") => {
                let preflight = self.left.finished.get(&Stage::Preflight);
                let emulates = preflight.and_then(|facts| facts.get("emulates")?.as_str()).unwrap_or_default();
                refuse_others(images, server, &emulated(emulates))
            }
            _ => Ok(()),
        }
    }
}

/// The platforms of processors that the server emulates, by the names that QEMU gives them.
fn emulated(processors: &str) -> Vec<&'static str> {
    let platform = |name| match name {
        "x86_64" => Some("linux/amd64"),
        "i386" => Some("linux/386"),
        "aarch64" => Some("linux/arm64"),
        "arm" => Some("linux/arm"),
        _ => None,
    };
    processors.split(' ').filter_map(platform).collect()
}

/// Docker on each takes images of its 32 bits as well.
fn platforms_of(system: &str) -> Option<&'static [&'static str]> {
    match system {
        "Linux x86_64" => Some(&["linux/amd64", "linux/386"]),
        "Linux aarch64" => Some(&["linux/arm64", "linux/arm"]),
        _ => None,
    }
}

fn refuse_others(images: &Images, server: &[&str], emulated: &[&str]) -> Result<(), StageError> {
    let is_unfit = |there: &ImagePlatforms| {
        let runs = |one: &str| server.contains(&one) || (!there.of_index && emulated.contains(&one));
        !there.names.is_empty() && !there.names.iter().any(|one| runs(one))
    };
    let Some((name, there)) = images.platforms.iter().find(|(_, there)| is_unfit(there)) else { return Ok(()) };
    let image = images.references.get(name).unwrap_or(name);
    let message = format!("{image} is built for {}, and the server is {}", there.names.join(", "), server.join(" or "));
    Err(StageError::new(ErrorCode::WrongArchitecture, message))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn an_image_that_is_not_there_for_the_servers_processor_is_refused() {
        for (system, emulates, of_index, there, refused) in [
            ("Linux aarch64", "", true, &["linux/amd64"][..], true),
            ("Linux aarch64", "", false, &["linux/amd64"], true),
            ("Linux aarch64", "x86_64", true, &["linux/amd64"], true),
            ("Linux aarch64", "riscv64 x86_64", false, &["linux/amd64"], false),
            ("Linux aarch64", "arm", false, &["linux/amd64"], true),
            ("Linux aarch64", "", true, &["linux/amd64", "linux/arm64"], false),
            ("Linux aarch64", "", true, &["linux/arm"], false),
            ("Linux x86_64", "", true, &["linux/arm64", "windows/amd64"], true),
            ("Linux x86_64", "", false, &["linux/386"], false),
            ("Linux x86_64", "", false, &[], false),
        ] {
            let names = there.iter().map(|p| (*p).to_owned()).collect();
            let images = Images {
                references: [("BACKEND_IMAGE".to_owned(), "ghcr.io/acme/shop-backend:sha-0123456".to_owned())].into(),
                platforms: [("BACKEND_IMAGE".to_owned(), ImagePlatforms { names, of_index })].into(),
                ..Images::default()
            };
            let judged = refuse_others(&images, platforms_of(system).unwrap(), &emulated(emulates));
            assert_eq!(judged.is_err(), refused, "{system} {emulates} {there:?}");
            if let Err(error) = judged {
                assert_eq!(error.code, ErrorCode::WrongArchitecture);
                assert!(error.message.contains("shop-backend:sha-0123456 is built for linux/a"), "{error}");
            }
        }
    }
}
