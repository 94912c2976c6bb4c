//! Services as units of systemd.

use std::fmt::Write;

use liveupdate_lab_guest::Service;

use crate::Result;
use crate::vm::{Control, PATIENCE};

const FOLDER: &str = "/etc/systemd/system";
/// Gone with the kernel that it was written under.
const INPUTS: &str = "/run/lab";
/// Has a unit of its own in the guest: the one that is shipped.
pub(super) const KEEPER: &str = "liveupdate-keeper";

/// Writes a unit for each, enables them and starts them in this order.
pub(super) async fn install(control: &Control, services: &[Service]) -> Result<()> {
    for service in services {
        let path = match service.name.as_str() {
            KEEPER => format!("{FOLDER}/{KEEPER}.service.d/lab.conf"),
            name => format!("{FOLDER}/{name}.service"),
        };
        if !service.input.is_empty() {
            control.write(&input(service), 0o600, &service.input, PATIENCE).await?;
        }
        control.write(&path, 0o644, &unit(service), PATIENCE).await?;
    }
    control.output("systemctl", &["daemon-reload"], PATIENCE).await?;
    for service in services {
        control.output("systemctl", &["enable", "--now", &service.name], PATIENCE).await?;
    }
    Ok(())
}

fn input(service: &Service) -> String {
    format!("{INPUTS}/{}", service.name)
}

fn unit(service: &Service) -> String {
    let line =
        [service.program.to_string_lossy().into_owned()].into_iter().chain(service.args.iter().cloned());
    let line = line.collect::<Vec<_>>().join(" ");
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = match service.name.as_str() {
        KEEPER => writeln!(text, "[Service]\nExecStart=\nExecStart={line}"),
        _ if service.input.is_empty() => writeln!(text, "{}ExecStart={line}", head(service)),
        _ => {
            // Read by the first start alone; its bytes are nowhere from then on.
            let file = input(service);
            let shell = format!("if [ -e {file} ]; then exec <{file}; rm {file}; fi; exec {line}");
            writeln!(text, "{}ExecStart=/bin/sh -c '{shell}'", head(service))
        }
    };
    for (name, value) in &service.env {
        let _ = writeln!(text, "Environment={name}={value}");
    }
    text.push_str("StandardOutput=tty\n");
    if service.name != KEEPER {
        let _ = writeln!(text, "OOMScoreAdjust={}", service.oom_score);
        text.push_str("Restart=on-failure\n\n[Install]\nWantedBy=multi-user.target\n");
    }
    text
}

fn head(service: &Service) -> String {
    format!("[Unit]\nDescription={0}\nAfter={KEEPER}.service\n\n[Service]\n", service.name)
}
