//! What goes over the socket.

/// One packet with the files beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<F> {
    /// One message.
    pub bytes: Vec<u8>,
    /// Its files.
    pub files: Vec<F>,
}
