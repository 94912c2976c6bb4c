//! The wish to knock, for whoever has one.

use liveupdate_proto::controller::v1::KnockCause;
use tokio::sync::watch;

/// Where the agent says that there is something to knock about.
#[derive(Clone, Debug)]
pub(crate) struct Knocker {
    wanted: watch::Sender<Option<KnockCause>>,
}

impl Default for Knocker {
    fn default() -> Self {
        Self { wanted: watch::Sender::new(None) }
    }
}

impl Knocker {
    /// Knocks soon. Several wishes become one knock; a return outranks the others.
    pub(crate) fn knock(&self, cause: KnockCause) {
        self.wanted.send_modify(|wanted| {
            if *wanted != Some(KnockCause::Returned) {
                *wanted = Some(cause);
            }
        });
    }

    /// What is wished, as it changes.
    pub(crate) fn wishes(&self) -> watch::Receiver<Option<KnockCause>> {
        self.wanted.subscribe()
    }

    /// The wish that is to be carried out now; none: another one took it.
    pub(crate) fn take(&self) -> Option<KnockCause> {
        self.wanted.send_replace(None)
    }
}
