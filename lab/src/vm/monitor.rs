//! QEMU's monitor for people, on a socket beside the guest's others (`NAME.monitor`): where a guest is that says nothing any
//! more. A kernel that hangs before it has a console leaves no other trace.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Written when it waits for a command.
const PROMPT: &str = "(qemu) ";
/// For each answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Two looks: what stays in one place hangs there, and what does not loops.
const LOOKS: usize = 2;
const COMMANDS: [&str; 2] = ["info registers", "x /8i $pc"];

/// Where the guest's processor is, twice; in words where that cannot be told.
pub(super) fn look(socket: &Path) -> String {
    let mut text = String::new();
    for _ in 0..LOOKS {
        // Writing to a String cannot fail.
        let _ = match ask(socket) {
            Ok(answer) => writeln!(text, "{answer}"),
            Err(error) => writeln!(text, "{}: {error}", socket.display()),
        };
        std::thread::sleep(Duration::from_millis(200));
    }
    text
}

fn ask(socket: &Path) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    answer(&mut stream)?;
    let mut text = String::new();
    for command in COMMANDS {
        writeln!(stream, "{command}")?;
        text.push_str(&answer(&mut stream)?);
    }
    Ok(text)
}

/// Up to the prompt, which is left out.
fn answer(stream: &mut UnixStream) -> io::Result<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(PROMPT.as_bytes()) {
        let mut more = [0; 4096];
        match stream.read(&mut more)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => bytes.extend_from_slice(&more[..length]),
        }
    }
    bytes.truncate(bytes.len() - PROMPT.len());
    let text = String::from_utf8_lossy(&bytes);
    // What it echoes is full of a terminal's codes.
    Ok(text.lines().filter(|line| !line.contains('\u{1b}')).flat_map(|line| [line, "\n"]).collect())
}
