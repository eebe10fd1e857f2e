//! A server that means harm: it speaks SSH, takes everybody's key, and answers a script as its trick wants it to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use russh::keys::PrivateKey;
use russh::server::{Auth, ChannelOpenHandle, Config, Handle, Handler, Msg, Session};
use russh::{Channel, ChannelId, ChannelOpenFailure, MethodSet};

/// What it does with a script that it was given.
pub type Answer = fn(BegunScript) -> BoxFuture<'static, ()>;

/// How it behaves before any script comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Polite,
    /// It sends letters for ever where its greeting should be.
    Babbling,
    /// It takes the connection, and says nothing.
    Silent,
    /// It greets with so many bytes before the login.
    Verbose(usize),
    /// It has many host keys, and none of them is the one that it's known by.
    ManyKeys,
    /// It says that the key was only half of the login, for ever.
    NeverSatisfied,
    /// It lets people in, and opens no channel.
    Closed,
    /// It takes no command that is longer than dropbear's.
    Terse,
}

/// As dropbear has it.
const LONGEST_COMMAND: usize = 9000;

/// All bytes that hostile servers were sent.
pub type SentBytes = Arc<Mutex<Vec<u8>>>;

/// A script that was begun on it.
pub struct BegunScript {
    handle: Handle,
    channel: ChannelId,
    /// The how many-th of its connection, from 1.
    pub number: u32,
    /// How lines for the worker begin.
    pub mark: String,
}

impl BegunScript {
    /// False: nobody listens any more.
    pub async fn say(&self, bytes: impl Into<Vec<u8>>) -> bool {
        self.handle.data(self.channel, bytes.into()).await.is_ok()
    }

    pub async fn complain(&self, bytes: impl Into<Vec<u8>>) -> bool {
        self.handle.extended_data(self.channel, 1, bytes.into()).await.is_ok()
    }

    pub async fn tell(&self, key: &str, value: impl AsRef<[u8]>) -> bool {
        let line = [format!("\n{} {key} ", self.mark).as_bytes(), value.as_ref(), b"\n"].concat();
        self.say(line).await
    }

    pub async fn exit(&self, status: u32) {
        let _ = self.handle.exit_status_request(self.channel, status).await;
    }

    pub async fn close(&self) {
        let _ = self.handle.eof(self.channel).await;
        let _ = self.handle.close(self.channel).await;
    }

    pub async fn hang_up(&self) {
        let reason = russh::Disconnect::ByApplication;
        let _ = self.handle.disconnect(reason, "x".repeat(20_000), String::new()).await;
    }
}

struct Guest {
    manner: Manner,
    answer: Answer,
    received: SentBytes,
    /// What came on each channel.
    frames: HashMap<ChannelId, Vec<u8>>,
    begun: u32,
}

impl Guest {
    fn begin(&mut self, channel: ChannelId, mark: String, session: &Session) {
        self.begun += 1;
        let script = BegunScript { handle: session.handle(), channel, number: self.begun, mark };
        let answer = self.answer;
        tokio::spawn(async move {
            // As any script's first word is, so that nothing is taken for another program's.
            script.tell("began", "yes").await;
            answer(script).await;
        });
    }
}

impl Handler for Guest {
    type Error = russh::Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, russh::Error> {
        let Manner::Verbose(length) = self.manner else { return Ok(None) };
        Ok(Some("\u{1b}[2Jx\0".repeat(length / 6)))
    }

    async fn auth_publickey(&mut self, _: &str, _: &russh::keys::PublicKey) -> Result<Auth, russh::Error> {
        Ok(match self.manner {
            Manner::NeverSatisfied => {
                Auth::Reject { proceed_with_methods: Some(MethodSet::server_supported()), partial_success: true }
            }
            _ => Auth::Accept,
        })
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        match self.manner {
            Manner::Closed => reply.reject(ChannelOpenFailure::ResourceShortage).await,
            _ => reply.accept().await,
        }
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        self.frames.remove(&channel);
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        if self.manner == Manner::Terse && command.len() > LONGEST_COMMAND {
            return session.channel_failure(channel);
        }
        let command = decoded(&String::from_utf8_lossy(command));
        self.received.lock().unwrap().extend_from_slice(command.as_bytes());
        session.channel_success(channel)?;
        // A script may stand in the command, after its mark.
        if let Some(mark) = command.split(|c: char| !c.is_ascii_hexdigit()).find(|word| word.len() == 32) {
            self.begin(channel, mark.to_owned(), session);
        }
        Ok(())
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], session: &mut Session) -> Result<(), russh::Error> {
        self.received.lock().unwrap().extend_from_slice(data);
        let frame = self.frames.entry(channel).or_default();
        let begun = frame.contains(&b'\n');
        frame.extend_from_slice(data);
        let Some(end) = frame.iter().position(|byte| *byte == b'\n').filter(|_| !begun) else { return Ok(()) };
        let first = String::from_utf8_lossy(&frame[..end]).into_owned();
        let mark = first.split(' ').next().unwrap_or_default().to_owned();
        self.begin(channel, mark, session);
        Ok(())
    }
}

/// A command as its server's shell gets it, out of its words in base64.
fn decoded(command: &str) -> String {
    let words = command.rsplit_once(" sh ").map_or(command, |(_, words)| words).replace(' ', "");
    let program = STANDARD.decode(words).expect("a command in base64");
    String::from_utf8(program).expect("a program of text")
}

/// Makes a key; gives its public half.
pub fn make_key(path: &Path) -> String {
    let mut keygen = std::process::Command::new("ssh-keygen");
    assert!(keygen.args(["-qt", "ed25519", "-N", "", "-C", "", "-f"]).arg(path).status().unwrap().success());
    std::fs::read_to_string(path.with_extension("pub")).unwrap().trim().to_owned()
}

/// Serves until the runtime ends; gives the address.
pub async fn serve(
    manner: Manner,
    answer: Answer,
    key: &Path,
    others: &[PrivateKey],
    received: &SentBytes,
) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let keys = match manner {
        Manner::ManyKeys => others.to_vec(),
        _ => vec![russh::keys::load_secret_key(key, None).unwrap()],
    };
    let short = Duration::from_millis(10);
    let config =
        Config { keys, auth_rejection_time: short, auth_rejection_time_initial: Some(short), ..Config::default() };
    let (config, received) = (Arc::new(config), received.clone());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (config, received) = (config.clone(), received.clone());
            tokio::spawn(async move {
                match manner {
                    Manner::Babbling => {
                        use tokio::io::AsyncWriteExt as _;
                        while stream.write_all(&[b'x'; 4096]).await.is_ok() {
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                    }
                    Manner::Silent => tokio::time::sleep(Duration::from_secs(600)).await,
                    _ => {
                        let guest = Guest { manner, answer, received, frames: HashMap::new(), begun: 0 };
                        if let Ok(session) = russh::server::run_stream(config, stream, guest).await {
                            let _ = session.await;
                        }
                    }
                }
            });
        }
    });
    address
}
