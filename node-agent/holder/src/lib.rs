//! liveupdate-holder
