//! Asking a guest's first process for things.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use liveupdate_lab_guest::{Action, Message, Order, Outcome, Request, Service};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{oneshot, watch};

use super::Serial;
use crate::{Error, Result};

/// A kernel that came up in the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Counted from 1, over resets and jumps.
    pub number: usize,
    /// As `uname -r` has it.
    pub release: String,
    /// As the kernel gave it to itself.
    pub boot_id: String,
    /// When it said so.
    pub at: Instant,
}

/// The line to a guest's first process.
#[derive(Debug)]
pub struct Control {
    serial: Serial,
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    shared: Arc<Shared>,
    boots: watch::Receiver<Vec<Boot>>,
    reader: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    answers: BTreeMap<u64, oneshot::Sender<Message>>,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Control {
    /// Speaks over QEMU's end of the virtio-serial port. `serial` is for errors.
    pub fn new(stream: UnixStream, serial: Serial) -> Control {
        let (read, write) = stream.into_split();
        let shared = Arc::new(Shared::default());
        let (sender, boots) = watch::channel(Vec::new());
        let reader = tokio::spawn(read_messages(read, Arc::clone(&shared), sender));
        Control { serial, writer: tokio::sync::Mutex::new(write), shared, boots, reader }
    }

    /// The kernels that came up so far.
    pub fn boots(&self) -> Vec<Boot> {
        self.boots.borrow().clone()
    }

    /// The kernel that comes up as the given one, counted from 1.
    ///
    /// # Errors
    /// [`Error::Deadline`], or [`Error::Guest`] when QEMU is gone; both with the end of the console.
    pub async fn boot(&self, number: usize, deadline: Duration) -> Result<Boot> {
        let mut boots = self.boots.clone();
        let found = tokio::time::timeout(deadline, boots.wait_for(|boots| boots.len() >= number)).await;
        match found {
            Ok(Ok(boots)) => boots
                .get(number.saturating_sub(1))
                .cloned()
                .ok_or_else(|| self.serial.fail("kernels are counted from 1")),
            Ok(Err(_)) => Err(self.serial.fail(format!("it ended before kernel {number} of it came up"))),
            Err(_) => Err(self.late(format!("a kernel that comes up (number {number})"), deadline)),
        }
    }

    /// Runs a program to its end, whatever its exit code.
    ///
    /// # Errors
    /// When it cannot be started, does not end in time, or the kernel under it changes.
    pub async fn run(&self, program: &str, args: &[&str], deadline: Duration) -> Result<Outcome> {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        let answer = self.ask(Action::Run { program: program.to_owned(), args }).await?;
        match self.answer(program, answer, deadline).await? {
            Message::Ended { outcome, .. } => Ok(outcome),
            other => Err(self.unexpected(program, &other)),
        }
    }

    /// Runs a program that has to succeed, and gives its standard output.
    ///
    /// # Errors
    /// As [`Control::run`], and when its exit code is not 0.
    pub async fn output(&self, program: &str, args: &[&str], deadline: Duration) -> Result<String> {
        let outcome = self.run(program, args, deadline).await?;
        if outcome.code == Some(0) { Ok(outcome.stdout) } else { Err(self.ended(program, &outcome)) }
    }

    /// Starts a program that stays; its output goes to the console. Gives its process id.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start(&self, program: &str, args: &[&str], deadline: Duration) -> Result<u32> {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        let answer = self.ask(Action::Start { program: program.to_owned(), args }).await?;
        match self.answer(program, answer, deadline).await? {
            Message::Started { pid, .. } => Ok(pid),
            other => Err(self.unexpected(program, &other)),
        }
    }

    /// Runs a program that ends with a jump or a reset, and gives the kernel that comes up next.
    ///
    /// # Errors
    /// As [`Control::boot`]; and at once, with what it printed, when the program ends instead.
    pub async fn run_into_next_boot(&self, program: &str, args: &[&str], deadline: Duration) -> Result<Boot> {
        let next = self.boots.borrow().len() + 1;
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        let mut answer = self.ask(Action::Run { program: program.to_owned(), args }).await?;
        tokio::select! {
            boot = self.boot(next, deadline) => boot,
            Ok(message) = &mut answer => Err(match message {
                Message::Ended { outcome, .. } => self.ended(program, &outcome),
                other => self.unexpected(program, &other),
            }),
        }
    }

    /// What the guest's kernel says it is at this moment: release and boot id.
    ///
    /// # Errors
    /// When nobody answers in time.
    pub async fn kernel(&self, deadline: Duration) -> Result<(String, String)> {
        const WHAT: &str = "the question which kernel runs";
        let answer = self.ask(Action::Kernel).await?;
        match self.answer(WHAT, answer, deadline).await? {
            Message::Kernel { release, boot_id, .. } => Ok((release, boot_id)),
            other => Err(self.unexpected(WHAT, &other)),
        }
    }

    /// Writes a file in the guest so that it outlives a power cut.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn write(&self, path: &str, mode: u32, contents: &str, deadline: Duration) -> Result<()> {
        let action = Action::Write { path: path.into(), mode, contents: contents.to_owned() };
        self.done(&format!("the writing of {path}"), action, deadline).await
    }

    /// Writes down what every kernel of the guest starts, and starts it.
    ///
    /// # Errors
    /// When that cannot be written, or nothing can be started.
    pub async fn serve(&self, services: Vec<Service>, deadline: Duration) -> Result<()> {
        self.done("the start of the services", Action::Serve { services }, deadline).await
    }

    /// Does something to a service.
    ///
    /// # Errors
    /// When there is no such service, or it does not run where it should.
    pub async fn order(&self, service: &str, order: Order, deadline: Duration) -> Result<()> {
        let what = format!("the order {order:?} to service {service}");
        self.done(&what, Action::Order { service: service.to_owned(), order }, deadline).await
    }

    async fn done(&self, what: &str, action: Action, deadline: Duration) -> Result<()> {
        let answer = self.ask(action).await?;
        match self.answer(what, answer, deadline).await? {
            Message::Done { .. } => Ok(()),
            other => Err(self.unexpected(what, &other)),
        }
    }

    /// A channel that changes with every kernel that comes up.
    pub(super) fn watch(&self) -> watch::Receiver<Vec<Boot>> {
        self.boots.clone()
    }

    /// Tells it to sync and turn itself off. The answer is the end of QEMU.
    ///
    /// # Errors
    /// When QEMU is gone already.
    pub async fn power_off(&self) -> Result<()> {
        self.ask(Action::PowerOff).await.map(drop)
    }

    async fn ask(&self, action: Action) -> Result<oneshot::Receiver<Message>> {
        let (sender, receiver) = oneshot::channel();
        let id = {
            let mut waiting = self.shared.waiting();
            waiting.next += 1;
            let id = waiting.next;
            waiting.answers.insert(id, sender);
            id
        };
        let mut line = serde_json::to_vec(&Request { id, action })
            .map_err(|source| Error::Encoding { what: "a request to a guest", source: source.into() })?;
        line.push(b'\n');
        let written = self.writer.lock().await.write_all(&line).await;
        written.map_err(|error| self.serial.fail(format!("it takes no requests any more ({error})")))?;
        Ok(receiver)
    }

    async fn answer(
        &self,
        program: &str,
        answer: oneshot::Receiver<Message>,
        deadline: Duration,
    ) -> Result<Message> {
        match tokio::time::timeout(deadline, answer).await {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(_)) => Err(self.serial.fail(format!("its kernel went away under {program}"))),
            Err(_) => Err(self.late(format!("the end of {program}"), deadline)),
        }
    }

    fn ended(&self, program: &str, outcome: &Outcome) -> Error {
        let code = outcome.code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        self.serial.fail(format!("{program} ended with {code} and said:\n{}", said.trim_end()))
    }

    fn unexpected(&self, program: &str, message: &Message) -> Error {
        self.serial.fail(match message {
            Message::Failed { reason, .. } => format!("{program} could not be run: {reason}"),
            other => format!("{program} was answered with {other:?}"),
        })
    }

    fn late(&self, what: String, waited: Duration) -> Error {
        Error::Deadline { what, waited, detail: format!("; the end of the console:\n{}", self.serial.tail()) }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read_messages(read: OwnedReadHalf, shared: Arc<Shared>, boots: watch::Sender<Vec<Boot>>) {
    let mut lines = BufReader::new(read).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        // What a kernel that went away had half written is no message; the next one begins a new line.
        let Ok(message) = serde_json::from_slice::<Message>(&line) else { continue };
        match message {
            Message::Hello { release, boot_id } => {
                // Nobody is left who could answer: whoever waits is told by the end of the channel.
                shared.waiting().answers.clear();
                boots.send_modify(|boots| {
                    // The server of the same kernel was started again.
                    if boots.last().is_some_and(|boot| boot.boot_id == boot_id) {
                        return;
                    }
                    let number = boots.len() + 1;
                    boots.push(Boot { number, release, boot_id, at: Instant::now() });
                });
            }
            Message::Ended { id, .. }
            | Message::Started { id, .. }
            | Message::Kernel { id, .. }
            | Message::Done { id }
            | Message::Failed { id, .. } => {
                let waiter = shared.waiting().answers.remove(&id);
                if let Some(waiter) = waiter {
                    // Who no longer waits has been told of the deadline.
                    let _ = waiter.send(message);
                }
            }
        }
    }
    shared.waiting().answers.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn pair() -> (Control, UnixStream) {
        let (_, console) = std::os::unix::net::UnixStream::pair().unwrap();
        let (host, guest) = UnixStream::pair().unwrap();
        (Control::new(host, Serial::read("g", console).unwrap()), guest)
    }

    fn hello(release: &str) -> Vec<u8> {
        let hello = Message::Hello { release: release.into(), boot_id: format!("boot of {release}") };
        [b"\n".to_vec(), serde_json::to_vec(&hello).unwrap(), b"\n".to_vec()].concat()
    }

    #[tokio::test]
    async fn a_request_that_a_jump_swallowed_is_an_error_and_the_jump_a_boot() {
        let (control, mut guest) = pair();
        guest.write_all(&hello("one")).await.unwrap();
        assert_eq!(control.boot(1, SOON).await.unwrap().release, "one");
        let (run, ()) = tokio::join!(control.run("p", &[], SOON), async {
            // Half a message of the kernel that goes, then the next kernel.
            guest.write_all(b"{\"ended\":{\"id\"").await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            guest.write_all(&hello("two")).await.unwrap();
        });
        assert!(run.unwrap_err().to_string().contains("went away under p"));
        assert_eq!(control.boot(2, SOON).await.unwrap().release, "two");
    }

    #[tokio::test]
    async fn a_jump_that_is_refused_is_told_with_the_programs_own_words() {
        let (control, mut guest) = pair();
        guest.write_all(&hello("one")).await.unwrap();
        control.boot(1, SOON).await.unwrap();
        let (jump, ()) = tokio::join!(control.run_into_next_boot("p", &[], SOON), async {
            let outcome = Outcome { code: Some(1), stdout: String::new(), stderr: "refused".into() };
            let mut line = serde_json::to_vec(&Message::Ended { id: 1, outcome }).unwrap();
            line.push(b'\n');
            guest.write_all(&line).await.unwrap();
        });
        let error = jump.unwrap_err().to_string();
        assert!(error.contains("exit code 1") && error.contains("refused"), "{error}");
    }
}
