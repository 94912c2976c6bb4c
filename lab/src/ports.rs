//! Free TCP ports on the loopback address.
//!
//! The kernel is asked by binding, but below the range from which it gives ports to outgoing
//! connections: a server that is restarted on its port must find it free again.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

use crate::{Error, Result};

/// How many ports below the outgoing range are tried.
const SPAN: u16 = 12_000;

/// A port that nothing listens on and that this process has not given out before. Another process may
/// still take it before the caller binds it: callers try again with another one then.
///
/// # Errors
/// When every candidate is taken.
pub fn free() -> Result<u16> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let end = outgoing_range_start().max(SPAN + 1025);
    let begin = end - SPAN;
    // Processes side by side begin at different places, so that they seldom want the same port.
    let offset = (std::process::id().wrapping_mul(7919) % u32::from(SPAN)) as u16;
    for step in 0..SPAN {
        let port = begin + (offset + step) % SPAN;
        if !given.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            given.insert(port);
            return Ok(port);
        }
    }
    Err(Error::NoPort)
}

fn outgoing_range_start() -> u16 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(32_768)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_and_can_be_bound() {
        let (one, two) = (free().unwrap(), free().unwrap());
        assert_ne!(one, two);
        let _one = TcpListener::bind((Ipv4Addr::LOCALHOST, one)).unwrap();
        let _two = TcpListener::bind((Ipv4Addr::LOCALHOST, two)).unwrap();
    }
}
