//! liveupdate-keeper
