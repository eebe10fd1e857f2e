//! A certificate authority that speaks ACME: Caddy's own, on an address of its own in the world. It asks the servers at
//! ports 80 and 443, as a public one does.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::Result;

use super::World;
use super::cache::Cache;
use super::holder::MountHolder;
use super::net::{ACME, ACME_NAME};
use super::service::Service;

/// A running authority; it ends with the world.
#[derive(Debug)]
pub struct Authority {
    service: Service,
    root: PathBuf,
}

impl World {
    /// Starts a certificate authority whose certificates are good for so many minutes, at least five; it gives none for domains of `refused`.
    ///
    /// # Errors
    /// When it doesn't come up.
    pub fn start_authority(&self, minutes: u32, refused: &[&str]) -> Result<Authority> {
        Authority::start(&self.holder, &self.cache, minutes, refused)
    }
}

impl Authority {
    /// Starts one whose certificates are good for so many minutes, but for these domains, for which it gives none.
    fn start(holder: &Arc<MountHolder>, cache: &Cache, minutes: u32, refused: &[&str]) -> Result<Self> {
        let data = holder.folder().join("authority");
        fs::create_dir_all(&data)?;
        let root = data.join("pki/authorities/local/root.crt");
        let mut policy = format!("lifetime {minutes}m\n");
        if !refused.is_empty() {
            let _ = writeln!(policy, "deny {{\n domains {}\n}}", refused.join(" "));
        }
        let settings = data.join("Caddyfile");
        let text = format!(
            "{{\n admin off\n skip_install_trust\n auto_https disable_redirects\n storage file_system {}\n}}\n\
             https://{ACME_NAME} {{\n bind {ACME}\n tls internal\n acme_server {{\n{policy}}}\n}}\n",
            data.display()
        );
        fs::write(&settings, text)?;
        let home = data.display();
        let command = [
            "env".to_owned(),
            format!("XDG_DATA_HOME={home}"),
            format!("XDG_CONFIG_HOME={home}"),
            cache.caddy().display().to_string(),
            "run".to_owned(),
            "--adapter=caddyfile".to_owned(),
            format!("--config={}", settings.display()),
        ];
        let trusted = root.clone();
        let service = Service::new("authority", holder, command.into(), move |holder| {
            let asked = holder
                .command("curl")
                .args(["--silent", "--fail", "--noproxy", "*", "--max-time", "5", "--cacert"])
                .arg(&trusted)
                .arg(directory())
                .stdout(Stdio::null())
                .status()?;
            Ok(asked.success())
        });
        service.start()?;
        Ok(Self { service, root })
    }

    /// Where its clients begin.
    #[must_use]
    pub fn directory(&self) -> String {
        directory()
    }

    /// Its own certificate, a PEM file, which nobody trusts unless told to.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its process.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }
}

fn directory() -> String {
    format!("https://{ACME_NAME}/acme/local/directory")
}
