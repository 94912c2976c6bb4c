//! What was written down: by a controller into its file, by the agents of this process into memory.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex};

use liveupdate_lab::wait::{Answer, until};

use crate::bed::SOON;

static AGENTS: LazyLock<Mutex<Vec<u8>>> = LazyLock::new(Mutex::default);

struct Memory;

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        AGENTS.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Begins to keep what agents write.
pub(crate) fn keep() {
    let filter = tracing_subscriber::EnvFilter::new("info,kube=error");
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    let _ = lines.with_writer(|| Memory).try_init();
}

/// A log, from some place on.
#[derive(Clone)]
pub(crate) struct Log {
    file: Option<PathBuf>,
    from: usize,
}

impl Log {
    /// A controller's, from its end on.
    pub(crate) fn of_controller(file: PathBuf) -> Log {
        let mut log = Log { file: Some(file), from: 0 };
        log.from = log.all().len();
        log
    }

    /// A controller's, all of it.
    pub(crate) fn from_start(file: PathBuf) -> Log {
        Log { file: Some(file), from: 0 }
    }

    /// The agents', from its end on.
    pub(crate) fn of_agents() -> Log {
        let mut log = Log { file: None, from: 0 };
        log.from = log.all().len();
        log
    }

    fn all(&self) -> String {
        let bytes = match &self.file {
            Some(file) => std::fs::read(file).unwrap(),
            None => AGENTS.lock().unwrap().clone(),
        };
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What was written since.
    pub(crate) fn text(&self) -> String {
        self.all().get(self.from..).unwrap_or_default().to_owned()
    }

    /// Waits for a line that has all of these, and returns it.
    pub(crate) async fn line(&self, parts: &[&str]) -> String {
        until(&format!("a line with {parts:?}"), SOON, async || {
            let text = self.text();
            let found = text.lines().find(|line| parts.iter().all(|part| line.contains(part)));
            Ok(found.map_or_else(|| Answer::not_yet(&text), |line| Answer::Yes(line.to_owned())))
        })
        .await
        .unwrap()
    }
}
