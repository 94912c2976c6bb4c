//! A tree of lines, drawn with branches and wrapped to the canvas.

use super::{Canvas, Tone, harmless};

/// One line and what hangs below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    spans: Vec<(String, Tone)>,
    children: Vec<Tree>,
}

impl Tree {
    /// A line of one piece.
    #[must_use]
    pub fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self { spans: vec![(harmless(&text.into()), tone)], children: Vec::new() }
    }

    /// The line goes on with this, after two spaces; nothing is added for an empty text.
    #[must_use]
    pub fn and(mut self, text: impl Into<String>, tone: Tone) -> Self {
        let text = harmless(&text.into());
        if !text.is_empty() {
            self.spans.push((format!("  {text}"), tone));
        }
        self
    }

    /// Hangs a line below this one.
    pub fn push(&mut self, child: Tree) {
        self.children.push(child);
    }

    /// Hangs a branch below this one, unless there is nothing in it.
    pub fn push_branch(&mut self, branch: Tree) {
        if !branch.children.is_empty() {
            self.children.push(branch);
        }
    }

    /// The whole tree; every line ends with a line feed.
    #[must_use]
    pub fn draw(&self, canvas: Canvas) -> String {
        let mut out = String::new();
        let below = if self.children.is_empty() { "" } else { "│ " };
        self.draw_line("", below, canvas, &mut out);
        self.draw_children("", canvas, &mut out);
        out
    }

    /// Every line with the first words of those above it: what a pipe gets, where a line stands alone.
    #[must_use]
    pub fn flat(&self) -> Vec<String> {
        let mut lines = vec![self.text()];
        for child in &self.children {
            child.flatten("", &mut lines);
        }
        lines
    }

    fn flatten(&self, path: &str, lines: &mut Vec<String>) {
        lines.push(format!("{path}{}", self.text()));
        let own = self.spans.first().map_or("", |(text, _)| text.trim());
        let path = format!("{path}{own} › ");
        for child in &self.children {
            child.flatten(&path, lines);
        }
    }

    fn text(&self) -> String {
        self.spans.iter().map(|(text, _)| text.as_str()).collect::<String>().trim_end().to_owned()
    }

    fn draw_children(&self, prefix: &str, canvas: Canvas, out: &mut String) {
        for (index, child) in self.children.iter().enumerate() {
            let last = index + 1 == self.children.len();
            let (branch, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            let deeper = format!("{prefix}{below}");
            let hanging = if child.children.is_empty() { "  " } else { "│ " };
            child.draw_line(&format!("{prefix}{branch}"), &format!("{deeper}{hanging}"), canvas, out);
            child.draw_children(&deeper, canvas, out);
        }
    }

    fn draw_line(&self, first: &str, rest: &str, canvas: Canvas, out: &mut String) {
        let mut line = Line::new(first, canvas);
        for (text, tone) in &self.spans {
            for (space, word) in words(text) {
                if !line.fits(space, word) {
                    line.finish(out);
                    line = Line::new(rest, canvas);
                }
                line.add(space, word, *tone);
            }
        }
        line.finish(out);
    }
}

/// A line that is being filled.
struct Line {
    canvas: Canvas,
    text: String,
    columns: usize,
    empty: bool,
}

impl Line {
    fn new(prefix: &str, canvas: Canvas) -> Self {
        let text = Tone::Faint.paint(prefix, canvas);
        Self { canvas, text, columns: prefix.chars().count(), empty: true }
    }

    fn fits(&self, space: &str, word: &str) -> bool {
        self.empty || self.columns + space.chars().count() + word.chars().count() <= self.canvas.width
    }

    fn add(&mut self, space: &str, word: &str, tone: Tone) {
        let space = if self.empty { "" } else { space };
        self.text.push_str(space);
        self.text.push_str(&tone.paint(word, self.canvas));
        self.columns += space.chars().count() + word.chars().count();
        self.empty = false;
    }

    fn finish(&self, out: &mut String) {
        out.push_str(self.text.trim_end());
        out.push('\n');
    }
}

/// The words of a text, each with the spaces before it.
fn words(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.find(|c: char| !c.is_whitespace())?;
        let end = rest[start..].find(char::is_whitespace).map_or(rest.len(), |length| start + length);
        let (space, word) = (&rest[..start], &rest[start..end]);
        rest = &rest[end..];
        Some((space, word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Tree {
        let mut root = Tree::new("root", Tone::Strong).and("of all things", Tone::Plain);
        let mut branch = Tree::new("branch", Tone::Plain);
        branch.push(Tree::new("leaf that has many words", Tone::Wait));
        root.push(branch);
        root.push(Tree::new("end", Tone::Plain));
        root
    }

    #[test]
    fn lines_are_wrapped_below_their_branch() {
        let canvas = Canvas { width: 16, ..Canvas::plain() };
        let expected =
            "root  of all\n│ things\n├─ branch\n│  └─ leaf that\n│       has many\n│       words\n└─ end\n";
        assert_eq!(sample().draw(canvas), expected);
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let canvas = Canvas { width: 16, ..Canvas::plain() };
        let painted = sample().draw(Canvas { color: true, ..canvas });
        assert!(painted.contains('\u{1b}'));
        let codes = ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[2m", "\u{1b}[33m"];
        let bare = codes.iter().fold(painted, |text, code| text.replace(code, ""));
        let without_trailing: Vec<_> = bare.lines().map(str::trim_end).collect();
        assert_eq!(without_trailing.join("\n") + "\n", sample().draw(canvas));
    }

    #[test]
    fn nobody_who_is_drawn_steers_the_terminal() {
        let mut root = Tree::new("not\u{1b}[2J Ready", Tone::Plain)
            .and("a\u{1b}]0;title\u{7}b\nc\u{9b}31m", Tone::Plain);
        root.push(Tree::new("over\rwritten", Tone::Plain));
        let expected = "not [2J Ready  a ]0;title b c 31m\n└─ over written\n";
        assert_eq!(root.draw(Canvas::plain()), expected);
        let lines = ["not [2J Ready  a ]0;title b c 31m", "over written"];
        assert_eq!(root.flat(), lines);
    }

    #[test]
    fn flat_lines_say_where_they_belong() {
        let expected = ["root  of all things", "branch", "branch › leaf that has many words", "end"];
        assert_eq!(sample().flat(), expected);
    }
}
