//! Messages on a stream: each is preceded by its length as a varint, and bounded before it is parsed.

use std::io::{self, Read, Write};

use liveupdate_proto::MAX_MESSAGE_BYTES;
use prost::Message;

/// Reads one message; none at a clean end.
pub(crate) fn read<M: Message + Default>(stream: &mut impl Read) -> io::Result<Option<M>> {
    let Some(length) = read_length(stream)? else { return Ok(None) };
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    M::decode(bytes.as_slice()).map(Some).map_err(|e| invalid(format!("message of {length} bytes: {e}")))
}

/// Writes one message.
pub(crate) fn write(stream: &mut impl Write, message: &impl Message) -> io::Result<()> {
    let length = message.encoded_len();
    if length > MAX_MESSAGE_BYTES {
        return Err(invalid(format!("message of {length} bytes, at most {MAX_MESSAGE_BYTES} are sent")));
    }
    stream.write_all(&message.encode_length_delimited_to_vec())?;
    stream.flush()
}

fn read_length(stream: &mut impl Read) -> io::Result<Option<usize>> {
    let mut length = 0_usize;
    // Four bytes carry more than is ever taken.
    for index in 0..4_u32 {
        let mut byte = [0];
        match stream.read_exact(&mut byte) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof && index == 0 => return Ok(None),
            result => result?,
        }
        length |= usize::from(byte[0] & 0x7f) << (7 * index);
        if byte[0] & 0x80 == 0 {
            return if length <= MAX_MESSAGE_BYTES {
                Ok(Some(length))
            } else {
                Err(invalid(format!("length {length}, at most {MAX_MESSAGE_BYTES} bytes are taken")))
            };
        }
    }
    Err(invalid(format!("length of more than four bytes, at most {MAX_MESSAGE_BYTES} bytes are taken")))
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use liveupdate_proto::keeper::v1::{Abort, Request, request::Message};

    use super::*;

    fn request(reason: &str) -> Request {
        Request { subject: None, message: Some(Message::Abort(Abort { reason: reason.into() })) }
    }

    #[test]
    fn what_is_written_is_read_and_a_clean_end_is_none() {
        for reason in ["", "short", &"x".repeat(300), &"y".repeat(70_000)] {
            let mut wire = Vec::new();
            write(&mut wire, &request(reason)).unwrap();
            let mut stream = wire.as_slice();
            assert_eq!(read::<Request>(&mut stream).unwrap(), Some(request(reason)));
            assert_eq!(read::<Request>(&mut stream).unwrap(), None);
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_anything_is_read() {
        for wire in [vec![0xff, 0xff, 0xff, 0xff, 0x0f], vec![0x81, 0x80, 0x40]] {
            let error = read::<Request>(&mut wire.as_slice()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{wire:?}");
        }
        let error = write(&mut Vec::new(), &request(&"z".repeat(MAX_MESSAGE_BYTES))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn torn_messages_and_garbage_are_errors() {
        let mut wire = Vec::new();
        write(&mut wire, &request("torn")).unwrap();
        wire.pop();
        assert!(read::<Request>(&mut wire.as_slice()).is_err());
        assert!(read::<Request>(&mut [3, 0xff, 0xff, 0xff].as_slice()).is_err());
        assert!(read::<Request>(&mut [0x80].as_slice()).is_err());
    }
}
