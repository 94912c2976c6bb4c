//! liveupdate-agent
