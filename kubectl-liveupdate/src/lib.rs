//! kubectl-liveupdate
