//! The service's connection to its database, which it keeps, as a pool does: logging in for each request took a sixth of a
//! machine that is asked all the time.

use std::env;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

static KEPT: Mutex<Option<DatabaseLogin>> = Mutex::new(None);

/// A psql that takes one question after the other; the login is in its environment.
struct DatabaseLogin {
    psql: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl DatabaseLogin {
    fn open() -> io::Result<Self> {
        let mut psql = Command::new("psql")
            .args(["-XqAt", "-v", "ON_ERROR_STOP=1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (questions, answers) = (psql.stdin.take(), psql.stdout.take());
        let (Some(questions), Some(answers)) = (questions, answers) else {
            return Err(io::Error::other("psql without pipes"));
        };
        Ok(Self { psql, questions, answers: BufReader::new(answers) })
    }

    /// Whether the database answers over it; it ends with the first error.
    fn answers(&mut self) -> bool {
        let mut line = String::new();
        let asked = writeln!(self.questions, "select 1;").and_then(|()| self.answers.read_line(&mut line));
        asked.is_ok() && line == "1\n"
    }
}

impl Drop for DatabaseLogin {
    fn drop(&mut self) {
        let _ = self.psql.kill();
        let _ = self.psql.wait();
    }
}

/// Whether the database answers, over the login that is kept, or a new one; where there is one.
pub fn works() -> bool {
    if env::var("PGHOST").unwrap_or_default().is_empty() {
        return true;
    }
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.as_mut().is_none_or(|login| !login.answers()) {
        *kept = DatabaseLogin::open().ok().and_then(|mut login| login.answers().then_some(login));
    }
    kept.is_some()
}
