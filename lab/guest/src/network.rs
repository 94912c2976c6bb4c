//! The network of a kernel that could not set it up by `ip=`: its card came with a module. Spoken to the kernel as
//! `ip link` and `ip address` do, which no initrd of the lab has.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::time::Instant;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::boot::PATIENCE;

/// Kinds of messages (`linux/rtnetlink.h`, `linux/netlink.h`).
const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const ERROR: u16 = 2;
/// Flags of a request: that it is one, and that it is to be answered; and that what it makes is new.
const ASKS: u16 = 0x1 | 0x4;
const MAKES: u16 = 0x200 | 0x400;
const HEADER: usize = 16;
/// `IFF_UP`; `AF_INET`; attributes of an address: the link's far end, and its own.
const UP: u32 = 1;
const INET: u8 = 2;
const FAR: u16 = 1;
const OWN: u16 = 2;

/// `eth0=10.0.2.15/24`: waits for the card, and gives it that address.
pub(crate) fn set_up(text: &str) -> io::Result<()> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "not NAME=ADDRESS/BITS");
    let (card, address) = text.split_once('=').ok_or_else(wrong)?;
    let (address, bits) = address.split_once('/').ok_or_else(wrong)?;
    let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
    let bits: u8 = bits.parse().map_err(|_| wrong())?;
    // NETLINK_ROUTE is the protocol that is taken when none is said.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let mut socket = File::from(socket);
    for link in ["lo", card] {
        let index = index(link)?;
        ask(&mut socket, NEW_LINK, ASKS, &up(index))?;
        if link == card {
            ask(&mut socket, NEW_ADDRESS, ASKS | MAKES, &has(index, address, bits))?;
        }
    }
    Ok(())
}

/// Its number, once it is there: its driver comes up side by side with us.
fn index(link: &str) -> io::Result<u32> {
    let begun = Instant::now();
    loop {
        match std::fs::read_to_string(format!("/sys/class/net/{link}/ifindex")) {
            Ok(text) => return text.trim().parse().map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound && begun.elapsed() < PATIENCE => {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            Err(error) => return Err(error),
        }
    }
}

/// `struct ifinfomsg`: what is to change, and to what.
fn up(index: u32) -> Vec<u8> {
    [0, index, UP, UP].into_iter().flat_map(u32::to_ne_bytes).collect()
}

/// `struct ifaddrmsg`, with the address as both of its attributes.
fn has(index: u32, address: Ipv4Addr, bits: u8) -> Vec<u8> {
    let mut message = vec![INET, bits, 0, 0];
    message.extend(index.to_ne_bytes());
    for kind in [FAR, OWN] {
        message.extend([8, kind].into_iter().flat_map(u16::to_ne_bytes));
        message.extend(address.octets());
    }
    message
}

fn ask(socket: &mut File, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    let mut message = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    message.extend([kind, flags].into_iter().flat_map(u16::to_ne_bytes));
    // Its number, and who asks: there is one question at a time, and one who asks.
    message.extend([0; 8]);
    message.extend(body);
    socket.write_all(&message)?;
    let mut answer = [0; 4096];
    let read = socket.read(&mut answer)?;
    let answer = answer.get(..read).unwrap_or_default();
    match (answer.get(4..6), answer.get(HEADER..HEADER + 4)) {
        (Some(kind), Some(code)) if kind == ERROR.to_ne_bytes() => {
            match code.iter().rev().fold(0_u32, |code, byte| code << 8 | u32::from(*byte)).cast_signed() {
                0 => Ok(()),
                code => Err(io::Error::from_raw_os_error(-code)),
            }
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel does not answer as rtnetlink does")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_laid_out_as_in_the_headers() {
        assert_eq!(up(3), [0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
        let address = [10, 0, 2, 15];
        let head = [2, 24, 0, 0, 3, 0, 0, 0];
        let wanted = [&head[..], &[8, 0, 1, 0], &address, &[8, 0, 2, 0], &address].concat();
        assert_eq!(has(3, address.into(), 24), wanted);
        for bad in ["", "eth0", "eth0=10.0.2.15", "eth0=10.0.2/24", "eth0=10.0.2.15/x"] {
            assert!(set_up(bad).is_err(), "{bad}");
        }
    }
}
