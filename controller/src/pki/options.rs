//! Flags: where certificates come from, and who may have one.

use std::time::Duration;

use clap::{Args, ValueEnum};

/// Where the controller's certificate, and those of the agents, come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TlsMode {
    /// The controller keeps a CA of its own and gives agents certificates.
    SelfManaged,
    /// Somebody else writes them into files, on both ends.
    Files,
}

/// The flags.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Certificates")]
pub struct IdentityOptions {
    /// Where certificates come from
    #[arg(long, env = "LIVEUPDATE_TLS_MODE", value_enum, default_value_t = TlsMode::Files, value_name = "MODE")]
    pub tls_mode: TlsMode,
    /// Secret for our own CA, in the namespace of the Lease; it has to be there, and may be empty
    #[arg(long, env = "LIVEUPDATE_CA_SECRET", default_value = "liveupdate-ca", value_name = "NAME")]
    pub ca_secret: String,
    /// ConfigMap for the CAs that agents are to trust (ca.crt), beside it; the same holds for it
    #[arg(
        long,
        env = "LIVEUPDATE_TRUST_CONFIG_MAP",
        default_value = "liveupdate-trust",
        value_name = "NAME"
    )]
    pub trust_config_map: String,
    /// ServiceAccount of the agents, in the same namespace
    #[arg(
        long,
        env = "LIVEUPDATE_AGENT_SERVICE_ACCOUNT",
        default_value = "liveupdate-agent",
        value_name = "NAME"
    )]
    pub agent_service_account: String,
    /// DaemonSet of the agents, in the same namespace
    #[arg(long, env = "LIVEUPDATE_AGENT_DAEMONSET", default_value = "liveupdate-agent", value_name = "NAME")]
    pub agent_daemonset: String,
    /// Audience of the tokens with which agents ask for certificates
    #[arg(
        long,
        env = "LIVEUPDATE_ENROL_AUDIENCE",
        default_value = "liveupdate.dev/enrol",
        value_name = "NAME"
    )]
    pub enrol_audience: String,
    /// How long the CA holds; its successor is made when two thirds of that are over
    #[arg(long, env = "LIVEUPDATE_CA_LIFETIME", default_value = "8760h", value_parser = lifetime, value_name = "DURATION")]
    pub ca_lifetime: Duration,
    /// How long a certificate of the CA holds; it is renewed before two thirds of that are over
    #[arg(long, env = "LIVEUPDATE_LEAF_LIFETIME", default_value = "24h", value_parser = lifetime, value_name = "DURATION")]
    pub leaf_lifetime: Duration,
}

/// Below this, a certificate would be over before it is in use everywhere.
const SHORTEST: Duration = Duration::from_secs(1);

fn lifetime(text: &str) -> Result<Duration, String> {
    let duration = liveupdate_crds::duration::parse(text).map_err(|error| error.to_string())?;
    if duration < SHORTEST {
        return Err(format!("{text} is too short: give at least 1s"));
    }
    Ok(duration)
}
