//! A NIC that a guest hands to its holder, and who sends it frames at a steady pace, whatever the guest does.
//!
//! ```text
//!  pcie.0 ── root port ── virtio-net ◄── QEMU ◄── <guest>.nic ◄── Sender ── a thread of the lab
//! ```
//! The holder knows what is in a frame (its `virtio/frame.rs`):
//! ```text
//!  0 to │ 6 from │ 12 88b5 "liveup" │ 20 number │ 28.. words that follow from it
//! ```

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use super::witness::{Watched, Work};
use crate::{Error, Result};

/// Between two frames. The holder posts 256 buffers, which last for six seconds of a jump then.
pub const PACE: Duration = Duration::from_millis(25);
/// Words of a frame behind its number.
const WORDS: u64 = 9;
/// Bytes of a frame.
const FRAME: usize = 28 + 8 * WORDS as usize;
/// What a device writes before each frame.
const HEADER: u64 = 12;
const EVERYBODY: [u8; 6] = [0xff; 6];
const SENDER: [u8; 6] = [0x52, 0x54, 0, 0, 0x0f, 1];
/// EtherType 88b5 is left to experiments by IEEE 802.
const KIND: &[u8; 8] = b"\x88\xb5liveup";

/// A virtio NIC of version 1, alone behind a root port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// Its address in the guest.
    pub address: String,
    /// That of its root port.
    pub bridges: Vec<String>,
    socket: PathBuf,
    number: usize,
}

impl Nic {
    /// Of a guest that has so many root ports and buses before it.
    pub(super) fn new(folder: &Path, guest: &str, slot: u8, number: usize, bus: usize) -> Nic {
        Nic {
            address: format!("0000:{bus:02x}:00.0"),
            bridges: vec![format!("0000:00:{:02x}.0", usize::from(slot) + number)],
            socket: folder.join(format!("{guest}.nic")),
            number,
        }
    }

    /// What QEMU has to be told, with the first root port's slot.
    pub(super) fn arguments(&self, slot: u8) -> Vec<OsString> {
        let Nic { number, .. } = self;
        let slot = usize::from(slot) + number;
        let path = |path: &Path| path.to_string_lossy().replace(',', ",,");
        let netdev = format!(
            "dgram,id=frames,local.type=unix,local.path={},remote.type=unix,remote.path={}",
            path(&self.socket),
            path(&self.far_end())
        );
        let root_port = format!(
            "pcie-root-port,id=port{number},bus=pcie.0,addr={slot:#x},chassis={number},slot={number}"
        );
        let nic =
            format!("virtio-net-pci,netdev=frames,disable-legacy=on,romfile=,bus=port{number},addr=0.0");
        let args = [("-netdev", netdev), ("-device", root_port), ("-device", nic)];
        args.into_iter().flat_map(|(name, value)| [name.into(), value.into()]).collect()
    }

    /// Begins to send.
    ///
    /// # Errors
    /// When the guest is not there.
    pub fn sender(&self) -> Result<Sender> {
        Sender::start(&self.socket, &self.far_end())
    }

    /// Where QEMU sends what the guest sends: nowhere, when nobody is there.
    fn far_end(&self) -> PathBuf {
        self.socket.with_extension("sender")
    }
}

impl<'a> From<&'a Nic> for Watched<'a> {
    fn from(nic: &'a Nic) -> Watched<'a> {
        Watched { address: &nic.address, bridges: &nic.bridges, work: Work::Frames(HEADER + FRAME as u64) }
    }
}

/// Sends frames until it goes.
#[derive(Debug)]
pub struct Sender {
    ends: Arc<AtomicBool>,
    sent: Arc<Mutex<Vec<SystemTime>>>,
    thread: Option<JoinHandle<()>>,
}

impl Sender {
    fn start(to: &Path, from: &Path) -> Result<Sender> {
        let failed = Error::file("send frames to", to);
        let open = || {
            // What a sender before this one left there.
            let _ = std::fs::remove_file(from);
            let socket = UnixDatagram::bind(from)?;
            socket.connect(to)?;
            // Only so long does it not see that it shall end.
            socket.set_write_timeout(Some(10 * PACE))?;
            Ok(socket)
        };
        let socket = open().map_err(failed)?;
        let (ends, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (until, record) = (Arc::clone(&ends), Arc::clone(&sent));
        let name = "frames".to_owned();
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
            let (mut due, mut number) = (Instant::now(), 0);
            while !until.load(Ordering::Relaxed) {
                // Held meanwhile: what has come is among what was sent.
                let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
                let at = SystemTime::now();
                match socket.send(&frame(number)) {
                    Ok(_) => record.push(at),
                    // The device has no buffer left, and QEMU reads no further: it is late, not lost.
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                        continue;
                    }
                    // The guest is gone.
                    Err(_) => break,
                }
                drop(record);
                number += 1;
                // One that is late moves those that follow: they never come at once.
                due = Instant::now().max(due + PACE);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        let thread = thread.map_err(|source| Error::Spawn { name, program: "a thread".into(), source })?;
        Ok(Sender { ends, sent, thread: Some(thread) })
    }

    /// When each frame was sent, by its number.
    pub fn sent(&self) -> Vec<SystemTime> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its end is all that is wanted of it.
            let _ = thread.join();
        }
    }
}

fn frame(number: u64) -> Vec<u8> {
    let mut frame = [&EVERYBODY[..], &SENDER, KIND, &number.to_le_bytes()].concat();
    let word = |word| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(word).to_le_bytes();
    frame.extend((0..WORDS).flat_map(word));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RunDir;

    #[test]
    fn frames_are_numbered_and_go_out_at_a_steady_pace() {
        let folder = RunDir::create().unwrap();
        let nic = Nic::new(folder.path(), "g", 0x10, 2, 3);
        assert_eq!((nic.address.as_str(), nic.bridges[0].as_str()), ("0000:03:00.0", "0000:00:12.0"));
        assert!(nic.sender().is_err(), "nobody is there");
        let guest = UnixDatagram::bind(&nic.socket).unwrap();
        let sender = nic.sender().unwrap();
        let mut bytes = [0; 200];
        for number in 0..5_u64 {
            assert_eq!(guest.recv(&mut bytes).unwrap(), FRAME);
            assert_eq!(bytes[12..20], *KIND);
            assert_eq!(bytes[20..28], number.to_le_bytes());
            assert_eq!(bytes[..FRAME], frame(number));
        }
        let sent = sender.sent();
        assert!(sent[4].duration_since(sent[0]).unwrap() >= 3 * PACE, "{sent:?}");
    }
}
