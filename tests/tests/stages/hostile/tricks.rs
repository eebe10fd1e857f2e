//! The tricks of a hostile server, one a row: what it does with a script, and which error may come of it.

use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use slipway_protocol::{ErrorCode, Stage};

use super::machine::{Answer, BegunScript, Manner};
use super::trick::{ServerTrick, TrickEnd};

/// Says something again and again, not so fast that the other tricks have no time.
async fn repeat(script: BegunScript, says: impl Into<Vec<u8>>) {
    let says = says.into();
    while script.say(says.clone()).await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const fn trick(name: &'static str, answer: Answer, codes: &'static [ErrorCode]) -> ServerTrick {
    ServerTrick { name, stage: Stage::Preflight, manner: Manner::Polite, answer, outcome: TrickEnd::Fails(codes) }
}

/// A lie that only the server itself suffers from.
const fn believed(name: &'static str, stage: Stage, answer: Answer) -> ServerTrick {
    ServerTrick { stage, outcome: TrickEnd::Success, ..trick(name, answer, &[]) }
}

const fn manner(name: &'static str, manner: Manner, codes: &'static [ErrorCode]) -> ServerTrick {
    ServerTrick { manner, ..trick(name, silence, codes) }
}

const LATE: &[ErrorCode] = &[ErrorCode::DeadlineExceeded];
const LARGE: &[ErrorCode] = &[ErrorCode::OutputTooLarge];
const LOST: &[ErrorCode] = &[ErrorCode::ServerConnectionLost];
const KEPT_OUT: &[ErrorCode] = &[
    ErrorCode::DeadlineExceeded,
    ErrorCode::ServerUnreachable,
    ErrorCode::ServerConnectionLost,
    ErrorCode::SshKeyRefused,
];
const UNEXPLAINED: &[ErrorCode] = &[ErrorCode::InternalError, ErrorCode::ComposeInvalid];
const AWAY: &[ErrorCode] = &[ErrorCode::ServerUnreachable];

pub const TRICKS: &[ServerTrick] = &[
    trick("endless lines", endless_lines, LATE),
    trick("one endless line", endless_line, LATE),
    trick("endless complaints", endless_complaints, LATE),
    trick("a byte now and then", drip, LATE),
    trick("lines made of escapes", percent_lines, LATE),
    trick("giant facts", giant_facts, LARGE),
    trick("countless facts", countless_facts, LARGE),
    trick("a fact that is too large to be kept", large_fact, LARGE),
    trick("an exit message of megabytes, full of a terminal's commands", giant_message, &[ErrorCode::PortOccupied]),
    trick("a failure with a code that doesn't exist", unknown_code, &[ErrorCode::InternalError]),
    trick("a fence that nobody gave", wrong_fence, &[ErrorCode::StaleFence]),
    trick("facts with another script's mark", forged_mark, &[ErrorCode::UnsupportedOs]),
    trick("lies about everything", lies, &[ErrorCode::DockerTooOld, ErrorCode::PortOccupied]),
    trick("no disk, no time and no memory, in numbers that are none", bad_numbers, &[ErrorCode::ClockSkewed]),
    trick("success without having read the script", blind_success, &[ErrorCode::UnsupportedOs]),
    trick("the largest status there is", largest_status, &[ErrorCode::InternalError]),
    trick("a line that breaks off, and no status", half_line, LOST),
    trick("a connection that ends in the middle", hang_up, LOST),
    trick("a status, and then nothing more", never_closes, LATE),
    trick("nothing at all", silence, LATE),
    believed("bytes that aren't UTF-8, and NULs", Stage::Preflight, not_text),
    manner("letters instead of a greeting", Manner::Babbling, AWAY),
    manner("no greeting", Manner::Silent, AWAY),
    manner("a greeting of two hundred kilobytes", Manner::Verbose(200_000), KEPT_OUT),
    manner("many host keys, all of them wrong", Manner::ManyKeys, &[ErrorCode::HostKeyMismatch]),
    manner("a login that is never enough", Manner::NeverSatisfied, KEPT_OUT),
    manner("no channels", Manner::Closed, &[ErrorCode::SshCommandRefused]),
    ServerTrick { manner: Manner::Terse, ..believed("no command that has a script in it", Stage::Preflight, not_text) },
    believed("a checkout of nothing", Stage::Clone, blind_success),
    ServerTrick {
        stage: Stage::Env,
        ..trick("an env file that isn't there", blind_success, &[ErrorCode::ComposeInvalid])
    },
    ServerTrick {
        stage: Stage::Compose,
        ..trick("a model that isn't there", blind_success, &[ErrorCode::ComposeInvalid])
    },
    believed("a model of nothing, and containers that nobody tells of", Stage::Compose, model_of_nothing),
    ServerTrick { stage: Stage::Compose, ..trick("countless services", countless_services, UNEXPLAINED) },
];

fn silence(script: BegunScript) -> BoxFuture<'static, ()> {
    async move {
        tokio::time::sleep(Duration::from_secs(600)).await;
        drop(script);
    }
    .boxed()
}

fn endless_lines(script: BegunScript) -> BoxFuture<'static, ()> {
    repeat(script, "line after line\n".repeat(500)).boxed()
}

fn endless_line(script: BegunScript) -> BoxFuture<'static, ()> {
    repeat(script, vec![b'x'; 8 * 1024]).boxed()
}

fn endless_complaints(script: BegunScript) -> BoxFuture<'static, ()> {
    async move {
        while script.complain("\r\x1b[31mno\r".repeat(500)).await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    .boxed()
}

fn percent_lines(script: BegunScript) -> BoxFuture<'static, ()> {
    repeat(script, format!("{}\n", "%".repeat(20_000))).boxed()
}

fn drip(script: BegunScript) -> BoxFuture<'static, ()> {
    async move {
        while script.say("x").await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    .boxed()
}

fn giant_facts(script: BegunScript) -> BoxFuture<'static, ()> {
    async move { while script.tell("os", vec![b'x'; 3_000_000]).await {} }.boxed()
}

fn countless_facts(script: BegunScript) -> BoxFuture<'static, ()> {
    async move { while script.say(format!("{} os x\n", script.mark).repeat(200)).await {} }.boxed()
}

async fn healthy(script: &BegunScript) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    script.tell("clock", now.to_string()).await;
    for (key, value) in [
        ("system", "Linux x86_64"),
        ("os", "Debian"),
        ("user", "root"),
        ("root", "yes"),
        ("resolves", "yes"),
        ("memory_kb", "4000000"),
        ("git", "git version 2.39"),
        ("docker_client", "present"),
        ("docker", "27.0.1"),
        ("compose", "2.26.1"),
        ("writable", "yes"),
        ("disk_kb", "90000000"),
        ("inodes", "9000000"),
        ("ufw", "absent"),
    ] {
        script.tell(key, value).await;
    }
}

async fn done(script: &BegunScript, status: u32) {
    script.exit(status).await;
    script.close().await;
}

fn large_fact(script: BegunScript) -> BoxFuture<'static, ()> {
    async move {
        healthy(&script).await;
        script.tell("os", vec![b'x'; 1_000_000]).await;
        done(&script, 0).await;
    }
    .boxed()
}

fn not_text(script: BegunScript) -> BoxFuture<'static, ()> {
    async move {
        healthy(&script).await;
        script.say(b"\xff\xfe\x00\xc3\x28 line \x00\n\n\n\xf0\x9f\n".repeat(50)).await;
        script.tell("os", b"Debian\x00 \xff\x1b[2J\x1b]0;owned\x0712").await;
        script.tell("ufw\x00", b"\x00").await;
        done(&script, 0).await;
    }
    .boxed()
}

fn giant_message(script: BegunScript) -> BoxFuture<'static, ()> {
    async move {
        script.tell("failed", format!("port-occupied {}", "\x1b[2J\x1b]0;owned\x07gone\0".repeat(100_000))).await;
        script.say("\x1b[31mthe end\x1b[0m\n".repeat(200)).await;
        done(&script, 3).await;
    }
    .boxed()
}

async fn explain(script: BegunScript, failure: &str) {
    script.tell("failed", failure).await;
    done(&script, 3).await;
}

fn unknown_code(script: BegunScript) -> BoxFuture<'static, ()> {
    explain(script, "succeeded all is well").boxed()
}

fn wrong_fence(script: BegunScript) -> BoxFuture<'static, ()> {
    explain(script, "stale-fence 18446744073709551615 is newer").boxed()
}

fn forged_mark(script: BegunScript) -> BoxFuture<'static, ()> {
    async move {
        for mark in ["0123456789abcdef0123456789abcdef", "", "MARK"] {
            script.say(format!("{mark} system Linux x86_64\n{mark} root yes\n")).await;
        }
        // The right one, but where programs complain.
        script.complain(format!("{} system Linux x86_64\n", script.mark)).await;
        done(&script, 0).await;
    }
    .boxed()
}

fn lies(script: BegunScript) -> BoxFuture<'static, ()> {
    async move {
        healthy(&script).await;
        script.tell("docker", "-1.99999999999999999999.0; reboot").await;
        script.tell("compose", "../../etc/passwd").await;
        for line in ["8080 ../../x running shop", "8080", "99999999999 a b c", "8080 a\tb running \u{202e}guest"] {
            script.tell("container", line).await;
            script.tell("process", line).await;
        }
        done(&script, 0).await;
    }
    .boxed()
}

fn bad_numbers(script: BegunScript) -> BoxFuture<'static, ()> {
    async move {
        healthy(&script).await;
        for key in ["disk_kb", "inodes", "memory_kb"] {
            for value in ["-5", "1e99", "NaN", "99999999999999999999999999", "\u{ff11}"] {
                script.tell(key, value).await;
            }
        }
        script.tell("clock", "18446744073709551615").await;
        done(&script, 0).await;
    }
    .boxed()
}

fn blind_success(script: BegunScript) -> BoxFuture<'static, ()> {
    async move { done(&script, 0).await }.boxed()
}

fn largest_status(script: BegunScript) -> BoxFuture<'static, ()> {
    async move { done(&script, u32::MAX).await }.boxed()
}

fn half_line(script: BegunScript) -> BoxFuture<'static, ()> {
    async move {
        script.say(format!("{} os Deb", script.mark)).await;
        script.close().await;
    }
    .boxed()
}

fn hang_up(script: BegunScript) -> BoxFuture<'static, ()> {
    async move {
        script.say(format!("{} os Deb", script.mark)).await;
        script.hang_up().await;
    }
    .boxed()
}

fn never_closes(script: BegunScript) -> BoxFuture<'static, ()> {
    async move {
        healthy(&script).await;
        script.exit(0).await;
        silence(script).await;
    }
    .boxed()
}

/// As JSON, in base64.
fn model_of_nothing(script: BegunScript) -> BoxFuture<'static, ()> {
    async move {
        script.tell("model", "e30=").await;
        done(&script, 0).await;
    }
    .boxed()
}

fn countless_services(script: BegunScript) -> BoxFuture<'static, ()> {
    if script.number == 1 {
        return model_of_nothing(script);
    }
    async move {
        for number in 0..50 {
            let lines = format!("\n{} service backend{number} running healthy 0 0 {}\n", script.mark, "x".repeat(2000));
            script.say(lines.repeat(100)).await;
        }
        done(&script, 7).await;
    }
    .boxed()
}
