//! The commands on their way: reads of a disk in order, each with a number of its own, none lost and none twice.

/// Most commands at once: one fewer than a ring has places.
pub(crate) const MOST: usize = 63;
/// Bytes of one command: a page.
pub(crate) const BYTES: usize = 4096;
/// Bytes that tell on the disk which block they are.
const BLOCK: u64 = 512;

/// One command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// Its place among the commands on their way.
    pub(crate) id: u16,
    /// Its number among all commands ever.
    pub(crate) number: u64,
}

/// What was seen of all commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Answered with success, and right as far as can be seen.
    pub(crate) done: u64,
    /// Answered with success, and the data is not that of the disk.
    pub(crate) wrong: u64,
    /// Answered with an error.
    pub(crate) failed: u64,
    /// Answers to what was not asked.
    pub(crate) strange: u64,
    /// Never answered: asked anew of a device that had forgotten them.
    pub(crate) lost: u64,
}

impl Counts {
    /// All that the device answered.
    pub(crate) fn answered(self) -> u64 {
        self.done + self.wrong + self.failed + self.strange
    }
}

/// How one answer is to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Right,
    Wrong,
    Failed,
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flight {
    /// The number of the command at each place; none: it is free.
    pub(crate) places: Vec<Option<u64>>,
    /// The number of the next one.
    pub(crate) next: u64,
    pub(crate) counts: Counts,
}

impl Flight {
    pub(crate) fn new(depth: usize) -> Self {
        Self { places: vec![None; depth.clamp(1, MOST)], next: 0, counts: Counts::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.iter().flatten().count()
    }

    /// A new command, when a place is free.
    pub(crate) fn start(&mut self) -> Option<Command> {
        let id = self.places.iter().position(Option::is_none)?;
        let number = self.next;
        self.next += 1;
        self.places[id] = Some(number);
        Some(Command { id: id as u16, number })
    }

    /// What was asked under an id that the device answers; none, and counted: nothing was.
    pub(crate) fn find(&mut self, id: u16) -> Option<Command> {
        let number = self.places.get(usize::from(id)).copied().flatten();
        if number.is_none() {
            self.counts.strange += 1;
        }
        number.map(|number| Command { id, number })
    }

    /// It was answered; its place is free.
    pub(crate) fn end(&mut self, command: Command, answer: Answer) {
        if let Some(place) = self.places.get_mut(usize::from(command.id)) {
            *place = None;
        }
        match answer {
            Answer::Right => self.counts.done += 1,
            Answer::Wrong => self.counts.wrong += 1,
            Answer::Failed => self.counts.failed += 1,
        }
    }

    /// The device has forgotten them: all that have to be asked again.
    pub(crate) fn lose(&mut self) -> Vec<Command> {
        let places = self.places.iter().enumerate();
        let lost: Vec<Command> = places
            .filter_map(|(id, number)| number.map(|number| Command { id: id as u16, number }))
            .collect();
        self.counts.lost += lost.len() as u64;
        lost
    }
}

impl Command {
    /// Where on a disk of so many bytes: one after another, and round.
    pub(crate) fn offset(self, disk: u64) -> u64 {
        let pieces = (disk / BYTES as u64).max(1);
        self.number % pieces * BYTES as u64
    }

    /// One of eight writes what is there anyway, when it may: so the device reads memory, too.
    pub(crate) fn writes(self, allowed: bool) -> bool {
        allowed && self.number % 8 == 7
    }
}

/// The word at a place of the disk: the number of its block.
pub(crate) fn word_at(offset: u64) -> u64 {
    offset / BLOCK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_no_hole_and_answers_are_counted_once() {
        let mut flight = Flight::new(3);
        let all: Vec<_> = std::iter::from_fn(|| flight.start()).collect();
        assert_eq!(
            all.iter().map(|command| (command.id, command.number)).collect::<Vec<_>>(),
            [(0, 0), (1, 1), (2, 2)]
        );
        let second = flight.find(1).unwrap();
        flight.end(second, Answer::Right);
        assert_eq!((flight.find(1), flight.find(9), flight.len()), (None, None, 2));
        assert_eq!(flight.start(), Some(Command { id: 1, number: 3 }));
        for answer in [Answer::Wrong, Answer::Failed] {
            let id = if answer == Answer::Wrong { 0 } else { 2 };
            let command = flight.find(id).unwrap();
            flight.end(command, answer);
        }
        assert_eq!(flight.lose(), [Command { id: 1, number: 3 }]);
        assert_eq!(flight.counts, Counts { done: 1, wrong: 1, failed: 1, strange: 2, lost: 1 });
    }

    #[test]
    fn places_on_the_disk_go_round_within_it() {
        let at = |number| Command { id: 0, number }.offset(3 * 4096 + 100);
        assert_eq!((0..5).map(at).collect::<Vec<_>>(), [0, 4096, 8192, 0, 4096]);
        assert_eq!((word_at(8192), word_at(8192 + 513)), (16, 17));
        let writes = |number| Command { id: 0, number }.writes(true);
        assert_eq!((0..16).filter(|number| writes(*number)).collect::<Vec<_>>(), [7, 15]);
        assert!(!Command { id: 0, number: 7 }.writes(false));
    }
}
