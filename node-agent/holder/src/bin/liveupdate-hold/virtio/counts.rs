//! What was seen of all frames: none lost, none twice, each as it was sent.

use super::frame::Frame;

/// Frames ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// The number that comes next.
    pub(crate) next: u64,
    /// The lab's.
    pub(crate) received: u64,
    /// Numbers that never came.
    pub(crate) lost: u64,
    /// Those that came after a later one, or twice.
    pub(crate) late: u64,
    /// Those that were not as they had been sent.
    pub(crate) wrong: u64,
    /// Somebody else's.
    pub(crate) others: u64,
    /// Buffers that the device gave back, and did not have.
    pub(crate) strange: u64,
}

impl Counts {
    /// Takes a frame. A sentence, if it is not as it should be.
    pub(crate) fn take(&mut self, frame: Frame) -> Option<String> {
        let number = match frame {
            Frame::Numbered(number) => number,
            Frame::Wrong(number) => {
                self.wrong += 1;
                return Some(format!("frame {number} is not as it was sent"));
            }
            Frame::Other => {
                self.others += 1;
                return None;
            }
        };
        self.received += 1;
        let Some(missing) = number.checked_sub(self.next) else {
            self.late += 1;
            return Some(format!("frame {number} comes when {} is due", self.next));
        };
        let said = (missing > 0).then(|| format!("{missing} frames are missing before {number}"));
        self.lost += missing;
        self.next = number.saturating_add(1);
        said
    }

    /// All that the device gave.
    pub(crate) fn given(self) -> u64 {
        self.received + self.wrong + self.others + self.strange
    }

    /// All that is not as it should be.
    pub(crate) fn bad(self) -> u64 {
        self.lost + self.late + self.wrong + self.strange
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_and_what_comes_twice_is_counted() {
        let mut counts = Counts::default();
        for number in [0, 1, 4, 2, 4, 5] {
            counts.take(Frame::Numbered(number));
        }
        assert_eq!((counts.received, counts.next, counts.lost, counts.late), (6, 6, 2, 2));
        assert_eq!(counts.take(Frame::Other), None);
        assert!(counts.take(Frame::Wrong(6)).is_some());
        assert_eq!((counts.given(), counts.bad()), (8, 5));
        assert_eq!(counts.take(Frame::Numbered(6)), None, "the next one all the same");
    }
}
