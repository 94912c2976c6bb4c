//! Pages of the documentation that are made from the code, so that they cannot say anything else.

use std::fmt::Write;

use clap::{Command, CommandFactory};
use liveupdate_planner::Reason;

use crate::advice::advice;
use crate::cli::Cli;

/// File names under `docs/`, and what they hold.
#[must_use]
pub fn pages() -> [(&'static str, String); 2] {
    [("reasons.md", reasons()), ("kubectl.md", commands())]
}

const MADE: &str = "<!-- Made by `make generate`; what is written here by hand is lost. -->\n\n";

/// Every reason, what it means, and what a person can do.
fn reasons() -> String {
    let mut text = format!(
        "# Reasons\n\n{MADE}\
         Every status, condition and Event carries one of these words. `kubectl get nlu` shows a node's in the \
         column\nREASON; `kubectl liveupdate explain NODE` shows it with the advice of this table, the names \
         filled in. Where\nnothing is to be done, it passes by itself or is an end.\n\n\
         | reason | what it means | what to do |\n|---|---|---|\n"
    );
    for &reason in Reason::ALL {
        let meaning = cell(reason.meaning());
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{reason}` | {meaning} | {} |", cell(advice(reason)));
    }
    text
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// The help of every command, as `--help` prints it on a line of 100 characters.
fn commands() -> String {
    let mut text = format!(
        "# kubectl liveupdate\n\n{MADE}\
         The plugin is one binary, `kubectl-liveupdate`; kubectl finds it in the PATH (`cargo install --locked \
         --path kubectl-liveupdate`\nputs it there). It reads the kubeconfig as kubectl does. Verbs are annotations \
         on the LiveUpdate ([api.md](api.md)): they\nneed the right to update it, but `approve` and `release` the verb \
         `approve` on `liveupdates` ([install.md](install.md)).\n"
    );
    let mut root = Cli::command().term_width(100);
    root.build();
    section(&mut text, "kubectl liveupdate", &root);
    text
}

/// A command, then those under it. What is hidden stays hidden.
fn section(text: &mut String, title: &str, command: &Command) {
    let help = command.clone().term_width(100).render_help().to_string();
    // Writing to a String cannot fail.
    let _ = write!(text, "\n## {title}\n\n```text\n");
    for line in help.trim_end().lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text.push_str("```\n");
    let shown = command.get_subcommands().filter(|under| !under.is_hide_set() && under.get_name() != "help");
    for under in shown {
        section(text, &format!("{title} {}", under.get_name()), under);
    }
}
