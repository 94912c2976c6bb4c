//! Commands as the device reads them: sixteen words of 32 bits, as the NVMe base specification has them.

/// One command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry(pub(crate) [u32; 16]);

const CREATE_COMMANDS: u32 = 0x01;
const CREATE_ANSWERS: u32 = 0x05;
const IDENTIFY: u32 = 0x06;
const WRITE: u32 = 0x01;
const READ: u32 = 0x02;
/// Both queues are in one piece.
const CONTIGUOUS: u32 = 1;
const INTERRUPTS: u32 = 1 << 1;

/// The only namespace that is used.
const NAMESPACE: u32 = 1;

fn entry(opcode: u32, id: u16, namespace: u32, address: u64, words: [u32; 3]) -> Entry {
    let mut entry = [0; 16];
    entry[0] = opcode | u32::from(id) << 16;
    entry[1] = namespace;
    (entry[6], entry[7]) = halves(address);
    entry[10..13].copy_from_slice(&words);
    Entry(entry)
}

fn halves(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}

/// Tells about the namespace.
pub(crate) fn identify(id: u16, address: u64) -> Entry {
    entry(IDENTIFY, id, NAMESPACE, address, [0; 3])
}

/// A queue for answers, which signals a vector.
pub(crate) fn create_answers(id: u16, address: u64, queue: u16, entries: u16, vector: u16) -> Entry {
    let size = u32::from(entries - 1) << 16 | u32::from(queue);
    entry(CREATE_ANSWERS, id, 0, address, [size, u32::from(vector) << 16 | INTERRUPTS | CONTIGUOUS, 0])
}

/// A queue for commands, answered in the queue of the same number.
pub(crate) fn create_commands(id: u16, address: u64, queue: u16, entries: u16) -> Entry {
    let size = u32::from(entries - 1) << 16 | u32::from(queue);
    entry(CREATE_COMMANDS, id, 0, address, [size, u32::from(queue) << 16 | CONTIGUOUS, 0])
}

/// Reads or writes sectors.
pub(crate) fn transfer(write: bool, id: u16, address: u64, sector: u64, sectors: u32) -> Entry {
    let (low, high) = halves(sector);
    let opcode = if write { WRITE } else { READ };
    entry(opcode, id, NAMESPACE, address, [low, high, sectors.saturating_sub(1)])
}

/// An answer, from its last two words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    /// How far the device has taken commands.
    pub(crate) head: u16,
    pub(crate) id: u16,
    pub(crate) phase: bool,
    /// 0: success.
    pub(crate) status: u16,
}

impl Answered {
    pub(crate) fn of(third: u32, fourth: u32) -> Self {
        let status = (fourth >> 16) as u16;
        Self { head: third as u16, id: fourth as u16, phase: status & 1 == 1, status: status >> 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_where_the_specification_has_them() {
        let Entry(read) = transfer(false, 0x12, 0xa_bcde_f000, 0x1_0000_0008, 8);
        assert_eq!((read[0], read[1]), (0x0012_0002, 1));
        assert_eq!((read[6], read[7], read[8]), (0xbcde_f000, 0xa, 0));
        assert_eq!(read[10..13], [8, 1, 7]);
        assert_eq!(transfer(true, 0, 0, 0, 1).0[0], 1);
        let Entry(answers) = create_answers(3, 0x1000, 1, 64, 1);
        assert_eq!((answers[0], answers[10], answers[11]), (0x0003_0005, 0x003f_0001, 0x0001_0003));
        let Entry(commands) = create_commands(4, 0x2000, 1, 64);
        assert_eq!((commands[0], commands[10], commands[11]), (0x0004_0001, 0x003f_0001, 0x0001_0001));
        assert_eq!(identify(5, 0).0[0], 0x0005_0006);
    }

    #[test]
    fn an_answer_is_read_as_the_specification_has_it() {
        let answered = Answered::of(0x0001_0007, 0x0005_0009);
        assert_eq!(answered, Answered { head: 7, id: 9, phase: true, status: 2 });
        assert_eq!(Answered::of(0, 0x0000_0001).status, 0);
    }
}
