//! Watches of the four kinds. Each goes on for ever: what breaks is begun again with a list.

use std::time::Duration;

use futures::stream::{self, BoxStream, LocalBoxStream, Stream, StreamExt};
use kube::runtime::watcher::{self, Config, Event, InitialListStrategy};
use kube::{Api, Client};
use liveupdate_proto::causes::chain;

use super::wire::{Kept, Node, NodeUpdate, Policy, Update, Wire};
use crate::cluster::objects::{Change, Observed};

/// A page of a list, where lists cannot be streamed: 100 Nodes are 2 MB of JSON at most.
pub(super) const PAGE: u32 = 100;
/// An API server that restarts is back in seconds: waiting longer between tries only loses time.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// All four kinds in one stream.
pub(super) fn all(client: &Client) -> LocalBoxStream<'static, Observed> {
    stream::select_all([
        watch::<Node>(client).map(Observed::Node).boxed_local(),
        watch::<Update>(client).map(Observed::Update).boxed_local(),
        watch::<NodeUpdate>(client).map(Observed::NodeUpdate).boxed_local(),
        watch::<Policy>(client).map(Observed::Policy).boxed_local(),
    ])
    .boxed_local()
}

struct Watch<P: Kept> {
    client: Client,
    events: BoxStream<'static, watcher::Result<Event<Wire<P>>>>,
    /// Tried to get the list streamed: less memory on both ends. Older servers refuse it.
    streaming: bool,
    failures: u32,
}

fn begin<P: Kept>(client: &Client, streaming: bool) -> BoxStream<'static, watcher::Result<Event<Wire<P>>>> {
    let config = Config::default().page_size(PAGE);
    let config = if streaming {
        config.streaming_lists()
    } else {
        Config { initial_list_strategy: InitialListStrategy::ListWatch, ..config }
    };
    watcher::watcher(Api::<Wire<P>>::all(client.clone()), config).boxed()
}

fn watch<P: Kept>(client: &Client) -> impl Stream<Item = Change<P::Object>> + use<P> {
    let events = begin::<P>(client, true);
    let watch = Watch::<P> { client: client.clone(), events, streaming: true, failures: 0 };
    stream::unfold(watch, async |mut watch| {
        loop {
            let change = match watch.events.next().await? {
                Ok(Event::Init) => Change::Restarted,
                Ok(Event::InitApply(wire)) => Change::Listed(wire.keep()),
                Ok(Event::InitDone) => Change::Complete,
                Ok(Event::Apply(wire)) => Change::Applied(wire.keep()),
                Ok(Event::Delete(wire)) => Change::Deleted(wire.name()),
                Err(error) => {
                    watch.failed(&error).await;
                    continue;
                }
            };
            watch.failures = 0;
            return Some((change, watch));
        }
    })
}

impl<P: Kept> Watch<P> {
    async fn failed(&mut self, error: &watcher::Error) {
        if self.streaming && refused(error) {
            tracing::info!(kind = P::KIND, "this API server streams no lists; listing page by page");
            self.streaming = false;
            self.events = begin::<P>(&self.client, false);
            return;
        }
        let pause = LONGEST_PAUSE.min(Duration::from_millis(100) * 2u32.saturating_pow(self.failures.min(8)));
        self.failures += 1;
        tracing::warn!(kind = P::KIND, error = %chain(error), "the watch broke; it begins again");
        tokio::time::sleep(pause).await;
    }
}

/// The server understood the request and does not want it so.
fn refused(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => matches!(status.code, 400 | 422),
        watcher::Error::WatchError(status) => matches!(status.code, 400 | 422),
        _ => false,
    }
}
