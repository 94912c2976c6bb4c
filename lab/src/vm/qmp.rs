//! QEMU's own control channel (QMP): one JSON object a line.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::PATIENCE;
use crate::{Error, Result};

/// An open control channel.
#[derive(Debug)]
pub struct Qmp {
    guest: String,
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl Qmp {
    /// Takes QEMU's greeting and answers it.
    ///
    /// # Errors
    /// [`Error::Qmp`] when QEMU does not speak as it should.
    pub async fn open(guest: &str, stream: UnixStream) -> Result<Qmp> {
        let (read, write) = stream.into_split();
        let mut qmp = Qmp { guest: guest.to_owned(), lines: BufReader::new(read).lines(), write };
        let greeting = qmp.next("greeting").await?;
        if greeting.get("QMP").is_none() {
            return Err(qmp.fail("greeting", format!("it said {greeting}")));
        }
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// Executes a command and gives what it returns.
    ///
    /// # Errors
    /// [`Error::Qmp`] with QEMU's reason.
    pub async fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let mut line = json!({"execute": command, "arguments": arguments}).to_string();
        line.push('\n');
        let written = self.write.write_all(line.as_bytes()).await;
        written.map_err(|error| self.fail(command, error.to_string()))?;
        loop {
            let mut answer = self.next(command).await?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = answer.get("error") {
                return Err(self.fail(command, error.to_string()));
            }
            // Anything else is an event.
        }
    }

    async fn next(&mut self, command: &str) -> Result<Value> {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
        let reason = match line {
            Ok(Ok(Some(line))) => match serde_json::from_str(&line) {
                Ok(value) => return Ok(value),
                Err(error) => format!("{line:?} is no JSON: {error}"),
            },
            Ok(Ok(None)) => "QEMU is gone".into(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        Err(self.fail(command, reason))
    }

    fn fail(&self, command: &str, reason: String) -> Error {
        Error::Qmp { guest: self.guest.clone(), command: command.to_owned(), reason }
    }
}
