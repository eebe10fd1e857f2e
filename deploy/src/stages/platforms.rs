//! Whether a release's images are there for the server's processor, before anything is pulled.

use slipway_protocol::{ErrorCode, Stage};

use super::images::Images;
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
            Some(server) if !String::from_utf8_lossy(compose).contains("\"platform\"") => refuse_others(images, server),
            _ => Ok(()),
        }
    }
}

/// Docker on each takes images of its 32 bits as well.
fn platforms_of(system: &str) -> Option<&'static [&'static str]> {
    match system {
        "Linux x86_64" => Some(&["linux/amd64", "linux/386"]),
        "Linux aarch64" => Some(&["linux/arm64", "linux/arm"]),
        _ => None,
    }
}

fn refuse_others(images: &Images, server: &[&str]) -> Result<(), StageError> {
    let is_unfit = |there: &Vec<String>| !there.is_empty() && !there.iter().any(|one| server.contains(&one.as_str()));
    let Some((name, there)) = images.platforms.iter().find(|(_, there)| is_unfit(there)) else { return Ok(()) };
    let image = images.references.get(name).unwrap_or(name);
    let message = format!("{image} is built for {}, and the server is {}", there.join(", "), server.join(" or "));
    Err(StageError::new(ErrorCode::WrongArchitecture, message))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn an_image_that_is_not_there_for_the_servers_processor_is_refused() {
        for (system, there, refused) in [
            ("Linux aarch64", &["linux/amd64"][..], true),
            ("Linux aarch64", &["linux/amd64", "linux/arm64"], false),
            ("Linux aarch64", &["linux/arm"], false),
            ("Linux x86_64", &["linux/arm64", "windows/amd64"], true),
            ("Linux x86_64", &["linux/386"], false),
            ("Linux x86_64", &[], false),
        ] {
            let images = Images {
                references: [("BACKEND_IMAGE".to_owned(), "ghcr.io/acme/shop-backend:sha-0123456".to_owned())].into(),
                platforms: [("BACKEND_IMAGE".to_owned(), there.iter().map(|p| (*p).to_owned()).collect())].into(),
                ..Images::default()
            };
            let judged = refuse_others(&images, platforms_of(system).unwrap());
            assert_eq!(judged.is_err(), refused, "{system} {there:?}");
            if let Err(error) = judged {
                assert_eq!(error.code, ErrorCode::WrongArchitecture);
                assert!(error.message.contains("shop-backend:sha-0123456 is built for linux/a"), "{error}");
            }
        }
    }
}
