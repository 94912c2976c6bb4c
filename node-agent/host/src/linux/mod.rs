//! The real machine: Linux system calls that std and rustix have no safe form of, with types that carry the
//! kernel's rules. Modules below are the only ones of the product that may use `unsafe`.

pub mod kexec;
pub mod luo;
