//! liveupdate-controller
