//! liveupdate-lab
