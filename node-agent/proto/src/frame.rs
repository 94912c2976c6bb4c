//! The handover socket's messages in packets: one each, at most 64 KiB and 64 files, numbered without a gap by each
//! sender.

use crate::handover::v1::{Envelope, envelope::Message};
use prost::Message as _;

/// Version of the contract that this build speaks.
pub const VERSION: u32 = 1;
/// Largest packet in bytes.
pub const MAX_BYTES: usize = 64 << 10;
/// Most files beside one packet.
pub const MAX_FILES: usize = 64;

/// What is wrong with a packet. The connection cannot go on after it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Larger than a packet may be.
    #[error("packet of {0} bytes, at most {MAX_BYTES} are allowed")]
    TooLarge(usize),
    /// With more files than a packet may have.
    #[error("packet with {0} files, at most {MAX_FILES} are allowed")]
    TooManyFiles(usize),
    /// Not a message.
    #[error("packet is not a handover message: {0}")]
    Malformed(String),
    /// A message without content.
    #[error("message {sequence} is empty, or of a kind that this version does not know")]
    Empty {
        /// Its number.
        sequence: u64,
    },
    /// Of a version that this build does not speak.
    #[error("message of version {found}, this side speaks {VERSION}")]
    Version {
        /// Its version.
        found: u32,
    },
    /// A message is missing or came twice.
    #[error("message {found} came, {expected} was expected")]
    Sequence {
        /// The number that should have come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
}

/// Numbers what is sent, checks the numbers of what comes. One for each connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    sent: u64,
    received: u64,
}

impl Sequence {
    /// Puts a message into a packet.
    ///
    /// # Errors
    /// It is too large; no number is used up.
    pub fn encode(&mut self, attempt: &str, message: Message, files: usize) -> Result<Vec<u8>, FrameError> {
        let sequence = self.sent + 1;
        let envelope =
            Envelope { version: VERSION, sequence, attempt: attempt.into(), message: Some(message) };
        check_size(envelope.encoded_len(), files)?;
        self.sent = sequence;
        Ok(envelope.encode_to_vec())
    }

    /// Takes a message out of a packet: its attempt and itself.
    ///
    /// # Errors
    /// See [`FrameError`]; sizes are checked before anything is parsed.
    pub fn decode(&mut self, packet: &[u8], files: usize) -> Result<(String, Message), FrameError> {
        check_size(packet.len(), files)?;
        let envelope = Envelope::decode(packet).map_err(|e| FrameError::Malformed(e.to_string()))?;
        if envelope.version != VERSION {
            return Err(FrameError::Version { found: envelope.version });
        }
        let (expected, found) = (self.received + 1, envelope.sequence);
        if found != expected {
            return Err(FrameError::Sequence { expected, found });
        }
        let message = envelope.message.ok_or(FrameError::Empty { sequence: found })?;
        self.received = found;
        Ok((envelope.attempt, message))
    }
}

fn check_size(bytes: usize, files: usize) -> Result<(), FrameError> {
    if bytes > MAX_BYTES {
        return Err(FrameError::TooLarge(bytes));
    }
    if files > MAX_FILES {
        return Err(FrameError::TooManyFiles(files));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::handover::v1::{Hello, Preserved};

    use super::*;

    fn hello(name: &str) -> Message {
        Message::Hello(Hello { name: name.into(), versions: vec![VERSION] })
    }

    #[test]
    fn messages_come_out_as_they_went_in_and_in_order() {
        let (mut here, mut there) = (Sequence::default(), Sequence::default());
        for attempt in ["", "a-1"] {
            let packet = here.encode(attempt, hello("vm"), 0).unwrap();
            assert_eq!(there.decode(&packet, 0).unwrap(), (attempt.to_owned(), hello("vm")));
        }
    }

    #[test]
    fn a_repeated_and_a_missing_message_are_refused() {
        let (mut here, mut there) = (Sequence::default(), Sequence::default());
        let first = here.encode("", hello("vm"), 0).unwrap();
        let second = here.encode("", hello("vm"), 0).unwrap();
        assert_eq!(there.decode(&second, 0), Err(FrameError::Sequence { expected: 1, found: 2 }));
        there.decode(&first, 0).unwrap();
        assert_eq!(there.decode(&first, 0), Err(FrameError::Sequence { expected: 2, found: 1 }));
        there.decode(&second, 0).unwrap();
    }

    #[test]
    fn sizes_are_limited_both_ways() {
        let mut sequence = Sequence::default();
        let large = sequence.encode("", hello(&"x".repeat(MAX_BYTES)), 0);
        assert!(matches!(large, Err(FrameError::TooLarge(_))));
        assert_eq!(sequence.encode("", hello("vm"), 65), Err(FrameError::TooManyFiles(65)));
        assert_eq!(sequence, Sequence::default(), "no number was used up");
        assert_eq!(sequence.decode(&[0; MAX_BYTES + 1], 0), Err(FrameError::TooLarge(MAX_BYTES + 1)));
        let packet = sequence.encode("", hello("vm"), 64).unwrap();
        assert_eq!(Sequence::default().decode(&packet, 65), Err(FrameError::TooManyFiles(65)));
    }

    #[test]
    fn garbage_other_versions_and_empty_messages_are_refused() {
        let decode = |envelope: Envelope| Sequence::default().decode(&envelope.encode_to_vec(), 0);
        let good = Envelope {
            version: VERSION,
            sequence: 1,
            attempt: String::new(),
            message: Some(Message::Preserved(Preserved {})),
        };
        assert!(decode(good.clone()).is_ok());
        assert_eq!(decode(Envelope { version: 2, ..good.clone() }), Err(FrameError::Version { found: 2 }));
        assert_eq!(decode(Envelope { message: None, ..good }), Err(FrameError::Empty { sequence: 1 }));
        assert!(matches!(Sequence::default().decode(&[0xff; 9], 0), Err(FrameError::Malformed(_))));
        assert!(Sequence::default().decode(&[], 0).is_err());
    }
}
