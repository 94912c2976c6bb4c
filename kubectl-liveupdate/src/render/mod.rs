//! How things look: pure functions of data, time, width and colour.

pub mod table;
pub mod tree;
pub mod units;

/// Width that no line reaches: what is written into a pipe is not wrapped.
pub const UNBOUNDED: usize = usize::MAX;

/// What is drawn on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canvas {
    /// Columns of the terminal, or [`UNBOUNDED`].
    pub width: usize,
    /// Whether colours may be used (a terminal, and no `NO_COLOR`).
    pub color: bool,
    /// Whether points in time are told as ages (`12s ago`), which change with every look, or as they are.
    pub ages: bool,
}

impl Canvas {
    /// As for a pipe: no colour, no wrapping.
    #[must_use]
    pub const fn plain() -> Self {
        Self { width: UNBOUNDED, color: false, ages: true }
    }
}

/// A text of somebody else's without what steers a terminal. Nodes write what is shown of them; who looks at one must not
/// be led by it.
#[must_use]
pub fn harmless(text: &str) -> String {
    text.chars().map(|symbol| if symbol.is_control() { ' ' } else { symbol }).collect()
}

/// What a piece of text says by its colour. The words say the same without it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing in particular.
    #[default]
    Plain,
    /// A name to find again.
    Strong,
    /// Of less interest.
    Faint,
    /// As it shall be.
    Good,
    /// Waits for something.
    Wait,
    /// Went wrong.
    Bad,
}

impl Tone {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "\u{1b}[1m",
            Self::Faint => "\u{1b}[2m",
            Self::Good => "\u{1b}[32m",
            Self::Wait => "\u{1b}[33m",
            Self::Bad => "\u{1b}[31m",
        }
    }

    /// The text in this tone.
    #[must_use]
    pub fn paint(self, text: &str, canvas: Canvas) -> String {
        let code = self.code();
        if canvas.color && !code.is_empty() && !text.trim().is_empty() {
            format!("{code}{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}
