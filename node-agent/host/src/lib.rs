//! liveupdate-host
