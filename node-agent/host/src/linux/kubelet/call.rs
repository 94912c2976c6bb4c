//! One gRPC call on a local socket: as much of HTTP/2 (RFC 9113) as that takes, so that the keeper, which has no async
//! runtime and speaks with no network, can make it as the agent does.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Longest answer: etcd stores no object that is as long.
pub(super) const LONGEST: usize = 4 << 20;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The one stream of a connection.
const STREAM: u32 = 1;
/// Until it is said otherwise, nobody sends longer frames and nobody has more of an answer under way.
const LONGEST_FRAME: usize = 16 << 10;
const FIRST_WINDOW: usize = 65_535;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW: u8 = 8;
/// Of settings and pings; the last frame of a stream has the same.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// Asks, and waits for the message of the answer; none when there is only a status, which is then a refusal.
pub(super) fn unary(
    socket: &UnixStream,
    method: &str,
    message: &[u8],
    patience: Duration,
) -> io::Result<Option<Vec<u8>>> {
    let mut call = Call { socket, until: Instant::now() + patience };
    call.write(&request(method, message)?)?;
    let mut body = Vec::new();
    loop {
        let (kind, flags, stream, mut payload) = call.frame()?;
        match kind {
            SETTINGS if flags & ACK == 0 => call.write(&frame(SETTINGS, ACK, 0, &[])?)?,
            PING if flags & ACK == 0 => call.write(&frame(PING, ACK, 0, &payload)?)?,
            RESET if stream == STREAM => return Err(nonsense("the call was reset")),
            DATA if stream == STREAM => {
                if flags & PADDED != 0 {
                    return Err(nonsense("a padded frame"));
                }
                body.append(&mut payload);
                if body.len() > LONGEST {
                    return Err(nonsense("a longer answer than was allowed"));
                }
            }
            _ => {}
        }
        if stream == STREAM && matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            return first_message(&body);
        }
    }
}

/// What a client sends first, and the call: headers are written out, so that neither side needs a table.
fn request(method: &str, message: &[u8]) -> io::Result<Vec<u8>> {
    let window = u32::try_from(LONGEST).map_err(io::Error::other)?.to_be_bytes();
    let more = u32::try_from(LONGEST - FIRST_WINDOW).map_err(io::Error::other)?.to_be_bytes();
    // No pushes; the whole answer may be under way at once.
    let settings = [&[0, 2, 0, 0, 0, 0][..], &[0, 4], &window].concat();
    // ":method: POST" and ":scheme: http" by their numbers in the static table, names of others likewise.
    let mut headers = vec![0x83, 0x86];
    for (name, value) in [
        (&[0x04][..], method),
        (&[0x01], "localhost"),
        (&[0x0f, 0x10], "application/grpc"),
        (&[0x00, 0x02, b't', b'e'], "trailers"),
    ] {
        headers.extend_from_slice(name);
        // Longer ones would need more than one byte for their length.
        let length = u8::try_from(value.len()).ok().filter(|length| *length < 127);
        headers.push(length.ok_or_else(|| nonsense("a header that is too long"))?);
        headers.extend_from_slice(value.as_bytes());
    }
    let length = u32::try_from(message.len()).map_err(io::Error::other)?.to_be_bytes();
    let body = [&[0][..], &length, message].concat();
    Ok([
        PREFACE.to_vec(),
        frame(SETTINGS, 0, 0, &settings)?,
        frame(WINDOW, 0, 0, &more)?,
        frame(HEADERS, END_HEADERS, STREAM, &headers)?,
        frame(DATA, END_STREAM, STREAM, &body)?,
    ]
    .concat())
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<Vec<u8>> {
    if payload.len() > LONGEST_FRAME {
        return Err(nonsense("a frame that is too long"));
    }
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?.to_be_bytes();
    Ok([&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat())
}

/// Messages have a byte that says whether they are compressed, which was not offered, and their length.
fn first_message(body: &[u8]) -> io::Result<Option<Vec<u8>>> {
    if body.is_empty() {
        return Ok(None);
    }
    let (Some(0), Some(length)) = (body.first(), body.get(1..5)) else {
        return Err(nonsense("no message of gRPC"));
    };
    let length = length.iter().fold(0, |length: usize, byte| length << 8 | usize::from(*byte));
    let message = body.get(5..5 + length).ok_or_else(|| nonsense("a message that breaks off"))?;
    Ok(Some(message.to_vec()))
}

fn nonsense(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

struct Call<'a> {
    socket: &'a UnixStream,
    until: Instant,
}

impl Call<'_> {
    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.socket.set_write_timeout(Some(self.left()?))?;
        (&mut &*self.socket).write_all(bytes)
    }

    fn read(&self, bytes: &mut [u8]) -> io::Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            self.socket.set_read_timeout(Some(self.left()?))?;
            match (&mut &*self.socket).read(&mut bytes[at..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => at += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The next one: its kind, flags, stream and payload.
    fn frame(&mut self) -> io::Result<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.read(&mut head)?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        if length > LONGEST_FRAME {
            return Err(nonsense("a frame that is longer than was allowed"));
        }
        let mut payload = vec![0; length];
        self.read(&mut payload)?;
        Ok((kind, flags, u32::from_be_bytes(stream) & 0x7fff_ffff, payload))
    }
}
