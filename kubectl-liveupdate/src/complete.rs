//! Completion: kubectl runs `kubectl_complete-liveupdate` with what was typed so far. That file is a link to
//! this binary's `__complete`, which prints one word per line and kubectl's directive at the end.

use clap::CommandFactory;
use kube::ResourceExt;

use crate::cli::{Cli, ClusterArgs, CompleteArgs};
use crate::client;
use crate::error::Error;
use crate::output;

/// kubectl's ShellCompDirectiveNoFileComp: offer no files.
const NO_FILES: &str = ":4\n";

/// What may stand at a place of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A subcommand.
    Command,
    /// Name of an update.
    Update,
    /// Name of a node.
    Node,
    /// A step of the update that was named.
    Step,
    /// Nothing that could be known.
    Nothing,
}

/// What the last of the words may become. Flags count as no place; the plugin's own take their values by `=`
/// or as the next word, which is nothing that could be known.
#[must_use]
pub fn place(words: &[String]) -> Place {
    let Some((last, before)) = words.split_last() else { return Place::Command };
    if last.starts_with('-')
        || before.last().is_some_and(|word| word.starts_with("--") && !word.contains('='))
    {
        return Place::Nothing;
    }
    let before: Vec<&str> = before.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    match before.as_slice() {
        [] => Place::Command,
        [
            "status" | "approve" | "abort" | "pause" | "hold" | "resume" | "retry" | "skip"
            | "accept-failure" | "release",
        ] => Place::Update,
        ["explain"] | ["retry" | "skip" | "release", _] => Place::Node,
        ["approve", _] => Place::Step,
        _ => Place::Nothing,
    }
}

/// Prints the candidates. What cannot be read gives none: a completion must not complain.
///
/// # Errors
/// When standard output cannot be written.
pub async fn run(cluster: &ClusterArgs, args: &CompleteArgs) -> Result<(), Error> {
    let typed = args.words.last().map_or("", String::as_str);
    let candidates = candidates(cluster, &args.words).await.unwrap_or_default();
    let mut text: String =
        candidates.iter().filter(|word| word.starts_with(typed)).map(|word| format!("{word}\n")).collect();
    text.push_str(NO_FILES);
    output::print(&text)
}

async fn candidates(cluster: &ClusterArgs, words: &[String]) -> Result<Vec<String>, Error> {
    Ok(match place(words) {
        Place::Nothing => Vec::new(),
        Place::Command => Cli::command()
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
            .map(|command| command.get_name().to_owned())
            .collect(),
        Place::Update => {
            let updates = client::updates(&client::connect(cluster).await?).await?;
            updates.iter().map(ResourceExt::name_any).collect()
        }
        Place::Node => {
            let nodes = client::nodes(&client::connect(cluster).await?).await?;
            nodes.iter().map(ResourceExt::name_any).collect()
        }
        Place::Step => {
            let named = words.iter().filter(|word| !word.starts_with('-')).nth(1);
            let Some(name) = named else { return Ok(Vec::new()) };
            let update = client::update(&client::connect(cluster).await?, name).await?;
            update.spec.strategy.steps.into_iter().map(|step| step.name).collect()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_of_the_command_line_has_its_words() {
        let place = |line: &str| place(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(place(""), Place::Command);
        assert_eq!(place("sta"), Place::Command);
        assert_eq!(place("status "), Place::Update);
        assert_eq!(place("explain no"), Place::Node);
        assert_eq!(place("retry gpu "), Place::Node);
        assert_eq!((place("release "), place("release gpu no")), (Place::Update, Place::Node));
        assert_eq!(place("approve gpu ca"), Place::Step);
        assert_eq!(place("status -w "), Place::Update);
        assert_eq!(place("status --context "), Place::Nothing);
        assert_eq!(place("status --co"), Place::Nothing);
    }
}
