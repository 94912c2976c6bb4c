//! A kubelet's Pods API on a socket, for tests: it tells of the pods that it is given, in frames as grpc-go sends them.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use prost::Message as _;

use super::pod::{GetPodRequest, GetPodResponse, Pod};

/// It is stopped when this goes, as systemd does it: the socket goes too.
pub(crate) struct FakeKubelet {
    path: PathBuf,
    ending: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
    /// Instead of an answer's bytes, others made of them.
    pub(crate) garble: Arc<Mutex<Option<Garble>>>,
}

pub(crate) type Garble = Box<dyn Fn(Vec<u8>) -> Vec<u8> + Send>;

impl FakeKubelet {
    pub(crate) fn at(path: &Path, pods: Vec<Pod>) -> Self {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(path).unwrap();
        let ending = Arc::new(AtomicBool::new(false));
        let garble: Arc<Mutex<Option<Garble>>> = Arc::default();
        let (end, with) = (Arc::clone(&ending), Arc::clone(&garble));
        let serving = std::thread::spawn(move || {
            for socket in listener.incoming() {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                serve(&mut socket.unwrap(), &pods, with.lock().unwrap().as_ref());
            }
        });
        Self { path: path.into(), ending, serving: Some(serving), garble }
    }
}

impl Drop for FakeKubelet {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        // Wakes it up.
        let _ = UnixStream::connect(&self.path);
        let _ = self.serving.take().unwrap().join();
        let _ = std::fs::remove_file(&self.path);
    }
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// One call.
fn serve(socket: &mut UnixStream, pods: &[Pod], garble: Option<&Garble>) {
    // It speaks first, as servers may.
    let _ = socket.write_all(&frame(4, 0, 0, &[]));
    let mut preface = [0; 24];
    socket.read_exact(&mut preface).unwrap();
    assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let (mut headers, mut body) = (Vec::new(), None);
    while body.is_none() {
        let mut head = [0; 9];
        socket.read_exact(&mut head).unwrap();
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        socket.read_exact(&mut payload).unwrap();
        match head[3] {
            0 => body = Some(payload),
            1 => headers = payload,
            _ => {}
        }
    }
    let asked_for = b"/v1alpha1.Pods/GetPod";
    assert!(headers.windows(asked_for.len()).any(|part| part == asked_for), "{headers:?}");
    let request = GetPodRequest::decode(&body.unwrap()[5..]).unwrap();
    let uid = |pod: &&Pod| pod.metadata.as_ref().is_some_and(|all| all.uid == request.pod_uid);
    let ended = frame(1, 5, 1, b"\x88and a status");
    let answer = match pods.iter().find(uid) {
        None => ended,
        Some(pod) => {
            let message = GetPodResponse { pod: pod.encode_to_vec() }.encode_to_vec();
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            let message = [&[0][..], &length, &message].concat();
            let (first, second) = message.split_at(message.len() / 2);
            [
                // A window, a ping, and headers that nobody has to read.
                frame(8, 0, 0, &[0, 0, 1, 0]),
                frame(6, 0, 0, &[7; 8]),
                frame(1, 4, 1, b"\x88"),
                frame(0, 0, 1, first),
                frame(0, 0, 1, second),
                ended,
            ]
            .concat()
        }
    };
    let answer = garble.map_or(answer.clone(), |garble| garble(answer));
    // Who asked may have had enough already.
    let _ = socket.write_all(&answer);
    let _ = socket.shutdown(Shutdown::Write);
    let _ = socket.read_to_end(&mut Vec::new());
}
