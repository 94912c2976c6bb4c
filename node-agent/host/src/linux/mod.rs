//! The real machine: what is read of it under a root folder ([`root`]), the gates that follow ([`gates`]), and
//! the system calls that std and rustix have no safe form of, with types that carry the kernel's rules. Modules
//! below are the only ones of the product that may use `unsafe`.

pub mod boot_parameters;
pub mod cgroup;
pub mod clock;
pub mod custody;
pub mod driver;
pub mod fallback;
pub mod gates;
pub mod installation;
pub mod kernel;
pub mod kexec;
pub mod kexec_state;
pub mod kho;
pub mod kubelet;
pub mod luo;
pub mod machine;
pub mod memory;
pub mod modules;
pub mod pci;
pub mod processes;
pub mod root;
pub mod signers;
pub mod storage;
pub mod ticks;
pub mod vfio;
