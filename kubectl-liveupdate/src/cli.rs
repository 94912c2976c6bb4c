//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const EXIT_CODES: &str = "\
Exit codes:
  0  done; with `status NAME -w`: the update succeeded
  1  refused, failed or not found; with `status NAME -w`: the update ended otherwise or is gone
  2  wrong use: arguments, kubeconfig or a file that cannot be used";

/// See, steer and simulate live updates of a fleet's kernels.
#[derive(Debug, Parser)]
#[command(name = "kubectl-liveupdate", bin_name = "kubectl liveupdate", after_help = EXIT_CODES, disable_version_flag = true)]
pub struct Cli {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Which cluster, as kubectl has it.
#[derive(Args, Clone, Debug, Default)]
pub struct ClusterArgs {
    /// Context of the kubeconfig to use
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Kubeconfig file to use instead of $KUBECONFIG or ~/.kube/config
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// When to use colours; NO_COLOR in the environment means never
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto, value_name = "WHEN")]
    pub color: ColorChoice,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For people, with more columns.
    Wide,
    /// The objects as JSON.
    Json,
    /// The objects as YAML.
    Yaml,
    /// The objects' names alone.
    Name,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show an update as a tree, or all updates, one line each
    #[command(after_help = "\
Examples:
  kubectl liveupdate status                 # all updates, one line each
  kubectl liveupdate status gpu-kernels     # one update: steps, nodes, devices, blackout
  kubectl liveupdate status gpu-kernels -w  # follow it to its end; in a pipe only changed lines
  kubectl liveupdate status gpu-kernels -o yaml")]
    Status(StatusArgs),
    /// Tell all that is known of a node, and what to do about it
    #[command(after_help = "\
Examples:
  kubectl liveupdate explain node-07
  kubectl liveupdate explain node-07 -o json | jq '.status.gates'")]
    Explain(ExplainArgs),
    /// Let the step after STEP begin
    #[command(after_help = "\
Examples:
  kubectl liveupdate approve gpu-kernels          # the step that waits for it
  kubectl liveupdate approve gpu-kernels canary   # that step and no other")]
    Approve(ApproveArgs),
    /// Undo what has not jumped, start nothing more, end the update
    #[command(after_help = "Example:\n  kubectl liveupdate abort gpu-kernels")]
    Abort(VerbArgs),
    /// Start no more nodes; those whose agents have begun go on to their end
    #[command(
        visible_alias = "hold",
        after_help = "\
Examples:
  kubectl liveupdate pause gpu-kernels
  kubectl liveupdate resume gpu-kernels   # takes it back

The spec is not edited: the pause is an annotation, so GitOps does not fight it."
    )]
    Pause(VerbArgs),
    /// Go on after `pause`, or after too many failures
    #[command(after_help = "Example:\n  kubectl liveupdate resume gpu-kernels")]
    Resume(VerbArgs),
    /// Forget a node's failure and try it again
    #[command(after_help = "Example:\n  kubectl liveupdate retry gpu-kernels node-07")]
    Retry(NodeVerbArgs),
    /// Take a node out of the update
    #[command(after_help = "Example:\n  kubectl liveupdate skip gpu-kernels node-07")]
    Skip(NodeVerbArgs),
    /// Accept the failures so far; the budget counts from here
    #[command(after_help = "Example:\n  kubectl liveupdate accept-failure gpu-kernels")]
    AcceptFailure(VerbArgs),
    /// Give up for good what a quarantined node keeps for its holders
    #[command(after_help = "\
Examples:
  kubectl liveupdate explain node-07               # who did not come, and for what
  kubectl liveupdate release gpu-kernels node-07   # they never will

What is given up: memory and devices of every holder that did not take them back after the jump.
They are gone for good; a guest that comes for them afterwards starts from nothing. Before that a
holder may come at any time: nothing is given up by itself. The node counts as failed and stays
what its record says; `retry` lets it be tried again. It takes the right to approve (ClusterRole
liveupdate-approver).")]
    Release(NodeVerbArgs),
    /// Run an update against an imagined fleet, without any cluster
    #[command(after_help = "\
Examples:
  kubectl liveupdate simulate -f update.yaml --nodes 10000 --seed 7
  kubectl liveupdate simulate -f - --nodes 200 -o json < update.yaml

Planner and node core are those of the controller and the agent; the clock is virtual.
The same file, nodes and seed give the same output, byte for byte.")]
    Simulate(SimulateArgs),
    /// Make, sign and check what nodes are updated to, without any cluster
    #[command(subcommand)]
    Bundle(BundleCommand),
    /// Print the version
    Version(VersionArgs),
    /// Print words that may stand next, for the shell's completion by kubectl
    #[command(name = "__complete", hide = true)]
    Complete(CompleteArgs),
}

/// See [`Command::Status`].
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// The update; all when left out
    pub name: Option<String>,
    /// Follow it until it ends
    #[arg(short, long)]
    pub watch: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// See [`Command::Explain`].
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// The node
    pub node: String,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// How a verb is carried out.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct VerbOptions {
    /// With `server` the API server checks the change and keeps nothing of it
    #[arg(long, value_enum, default_value_t, value_name = "WHERE")]
    pub dry_run: DryRun,
    /// Do not wait until the controller has taken it
    #[arg(long)]
    pub no_wait: bool,
}

/// Whether a change is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    /// It is.
    #[default]
    None,
    /// The API server checks it and keeps nothing.
    Server,
}

/// A verb on an update.
#[derive(Args, Debug)]
pub struct VerbArgs {
    /// The update
    pub name: String,
    /// See [`VerbOptions`].
    #[command(flatten)]
    pub options: VerbOptions,
}

/// See [`Command::Approve`].
#[derive(Args, Debug)]
pub struct ApproveArgs {
    /// The update
    pub name: String,
    /// The step; the one that waits when left out
    pub step: Option<String>,
    /// See [`VerbOptions`].
    #[command(flatten)]
    pub options: VerbOptions,
}

/// A verb on a node of an update.
#[derive(Args, Debug)]
pub struct NodeVerbArgs {
    /// The update
    pub name: String,
    /// The node
    pub node: String,
    /// See [`VerbOptions`].
    #[command(flatten)]
    pub options: VerbOptions,
}

/// See [`Command::Simulate`].
#[derive(Args, Debug)]
pub struct SimulateArgs {
    /// File with a LiveUpdate (other documents in it are passed over); `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    pub filename: PathBuf,
    /// How many nodes the imagined fleet has
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub nodes: u32,
    /// What everything random is drawn from
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How to print: table or json
    #[arg(short, long, value_enum, default_value_t)]
    pub output: SimulateOutput,
}

/// How a simulation is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SimulateOutput {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// See [`Command::Bundle`].
#[derive(Debug, Subcommand)]
pub enum BundleCommand {
    /// Tell what the gate TargetKernel can know of a kernel's image
    #[command(after_help = "\
Examples:
  kubectl liveupdate bundle inspect /boot/vmlinuz-7.3.5-lu2
  kubectl liveupdate bundle inspect bzImage -o json | jq .targetKernel

TargetKernel is judged by the image alone: Pass says that nothing in it speaks against it. Whether it fits
the kernel that it is to replace, only the node can tell. A file beside the image is never read: it proves
nothing.")]
    Inspect(InspectArgs),
    /// Make a bundle from a kernel and what belongs to it
    #[command(after_help = "\
Examples:
  kubectl liveupdate bundle build -o 7.3.5-lu2 --image bzImage --initrd initrd.img \\
    --command-line 'root=/dev/vda1 ro console=ttyS0 liveupdate=on kho=on'
  kubectl liveupdate bundle build -o 7.3.5-lu2 --image bzImage --initrd initrd.img --modules staging/ \\
    --command-line 'root=/dev/vda1 liveupdate=on kho=on' --key release.key

Release, architecture and formats are read from the image itself. What the gate TargetKernel would refuse is
refused here. The same inputs give the same bytes, and so the same digest.")]
    Build(Box<BuildArgs>),
    /// Make a pair of keys for signing bundles
    #[command(after_help = "\
Example:
  kubectl liveupdate bundle keygen release   # release.key signs; release.pub goes to the nodes

They are Ed25519 keys in PEM, as other tools make them (openssl genpkey -algorithm ed25519).")]
    Keygen(KeygenArgs),
    /// Verify a bundle's files and vouch for it
    #[command(after_help = "\
Example:
  kubectl liveupdate bundle sign 7.3.5-lu2 --key release.key

Signatures of other keys stay, so that keys can be changed and two people can sign.")]
    Sign(SignArgs),
    /// Verify a bundle's files and, with --signers, who vouches for it
    #[command(after_help = "\
Examples:
  kubectl liveupdate bundle verify 7.3.5-lu2
  kubectl liveupdate bundle verify 7.3.5-lu2 --signers /etc/liveupdate/signers --digest sha256:…

Ends with 1 when anything is wrong: a file, the digest, or with --signers the signature.")]
    Verify(VerifyArgs),
    /// Put a bundle into a registry, and print what to write into spec.target.image
    #[command(after_help = "\
Examples:
  kubectl liveupdate bundle push 7.3.5-lu2 registry.example/kernels/7.3.5-lu2
  kubectl liveupdate bundle push 7.3.5-lu2 registry.example/kernels/7.3.5-lu2:stable   # a name for people, too

The same bundle has the same digest in every registry. What is there already is not sent again.")]
    Push(PushArgs),
    /// Fetch a bundle from a registry into a folder
    #[command(after_help = "\
Example:
  kubectl liveupdate bundle pull registry.example/kernels/7.3.5-lu2@sha256:… -o 7.3.5-lu2

It is named by its digest alone. Every byte is verified; who vouches for it, bundle verify --signers tells.")]
    Pull(PullArgs),
}

/// See [`BundleCommand::Build`].
#[derive(Args, Debug, Default)]
pub struct BuildArgs {
    /// The folder to make; its name is the bundle's
    #[arg(short, long, value_name = "FOLDER")]
    pub output: PathBuf,
    /// The kernel (bzImage)
    #[arg(long, value_name = "FILE")]
    pub image: PathBuf,
    /// The initrd
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// The kernel's modules: lib/modules/RELEASE, or the folder that lib/modules lies in
    #[arg(long, value_name = "FOLDER")]
    pub modules: Option<PathBuf>,
    /// The kernel's command line
    #[arg(long, value_name = "TEXT")]
    pub command_line: String,
    /// The kernel's .config, for an image that embeds none; whoever signs vouches for it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The release, for an image that does not tell it
    #[arg(long, value_name = "RELEASE")]
    pub release: Option<String>,
    /// liveupdate-init, to run first in the new kernel: it loads drivers before anything else can
    #[arg(long, value_name = "FILE", requires = "initrd")]
    pub shim: Option<PathBuf>,
    /// A driver module that the shim loads, with parameters behind it; in this order
    #[arg(long, value_name = "'FILE [NAME=VALUE]…'", requires = "shim")]
    pub driver: Vec<String>,
    /// The keeper's static program, for the shim to start
    #[arg(long, value_name = "FILE", requires = "shim")]
    pub keeper: Option<PathBuf>,
    /// An argument of the keeper
    #[arg(long, value_name = "WORD", requires = "keeper", allow_hyphen_values = true)]
    pub keeper_argument: Vec<String>,
    /// Where it comes from, for people: source=…, build=…
    #[arg(long, value_name = "NAME=TEXT")]
    pub note: Vec<String>,
    /// Sign it at once with this key
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Make it though TargetKernel would refuse it
    #[arg(long)]
    pub force: bool,
}

/// See [`BundleCommand::Keygen`].
#[derive(Args, Debug)]
pub struct KeygenArgs {
    /// NAME.key and NAME.pub are written
    pub name: PathBuf,
}

/// See [`BundleCommand::Sign`].
#[derive(Args, Debug)]
pub struct SignArgs {
    /// The bundle's folder
    pub bundle: PathBuf,
    /// The private key
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
}

/// See [`BundleCommand::Verify`].
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// The bundle's folder
    pub bundle: PathBuf,
    /// The folder with the public keys (NAME.pub) of those who are trusted
    #[arg(long, value_name = "FOLDER")]
    pub signers: Option<PathBuf>,
    /// The digest that it must have
    #[arg(long, value_name = "DIGEST")]
    pub digest: Option<String>,
    /// How to print: table or json
    #[arg(short, long, value_enum, default_value_t)]
    pub output: SimulateOutput,
}

/// How a registry is reached.
#[derive(Args, Clone, Debug, Default)]
pub struct RegistryArgs {
    /// File with credentials, as `docker login` writes it; when left out, that file itself if it is there
    #[arg(long, value_name = "FILE")]
    pub registry_auth: Option<PathBuf>,
    /// File with the registry's CA certificates, instead of the system's
    #[arg(long, value_name = "FILE")]
    pub registry_ca: Option<PathBuf>,
    /// A registry (HOST or HOST:PORT) that is spoken to without TLS; loopback is without --registry-ca
    #[arg(long, value_name = "HOST")]
    pub registry_plain_http: Vec<String>,
}

/// See [`BundleCommand::Push`].
#[derive(Args, Debug)]
pub struct PushArgs {
    /// The bundle's folder
    pub bundle: PathBuf,
    /// REGISTRY/REPOSITORY, with or without a :TAG
    pub reference: String,
    /// How the registry is reached
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// See [`BundleCommand::Pull`].
#[derive(Args, Debug)]
pub struct PullArgs {
    /// REGISTRY/REPOSITORY@sha256:…
    pub reference: String,
    /// The folder to make
    #[arg(short, long, value_name = "FOLDER")]
    pub output: PathBuf,
    /// How the registry is reached
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// See [`BundleCommand::Inspect`].
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// The image: bzImage, vmlinux, or another architecture's
    pub image: PathBuf,
    /// How to print: table or json
    #[arg(short, long, value_enum, default_value_t)]
    pub output: SimulateOutput,
}

/// See [`Command::Version`].
#[derive(Args, Debug)]
pub struct VersionArgs {
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: SimulateOutput,
}

/// See [`Command::Complete`].
#[derive(Args, Debug)]
pub struct CompleteArgs {
    /// What was typed so far
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}
