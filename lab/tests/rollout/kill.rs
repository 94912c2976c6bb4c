//! A controller that dies at one write, and is started again.

use std::time::{Duration, Instant};

use liveupdate_lab::write_proxy::{Fate, Place, Sprung, Write, WriteClass};
use liveupdate_lab::{Testbed, WriteProxy};

pub(crate) const LONG: Duration = Duration::from_secs(90);
/// No write for so long: the last one was made.
const QUIET: Duration = Duration::from_secs(3);

/// Begins something and waits for its rest, with the controller killed at one place and started again; a write of a
/// Lease kills it twice, the second time as it takes the Lease again. None: no write came to that place.
pub(crate) async fn killed(
    bed: &mut Testbed,
    proxy: &WriteProxy,
    place: Option<Place>,
    begin: impl AsyncFnOnce(&Testbed),
    rests: impl AsyncFn(&Testbed),
) -> Option<Write> {
    proxy.reset();
    let sprung = place.map(|place| lay(bed, proxy, place));
    begin(bed).await;
    let rested = async {
        rests(bed).await;
        quiet(proxy).await;
    };
    let (Some(place), Some(sprung)) = (place, sprung) else {
        rested.await;
        return None;
    };
    let struck = tokio::select! {
        struck = sprung.wait(2 * LONG) => Some(struck.unwrap()),
        () = rested => None,
    };
    // A write of that number may still come when nobody looks any more; it is none of these.
    if struck.is_none() && proxy.disarm() {
        return None;
    }
    bed.restart_controller(0).unwrap();
    if place.class == WriteClass::Lease {
        proxy.reset();
        let takes = lay(bed, proxy, Place { number: 1, ..place });
        takes.wait(LONG).await.unwrap();
        bed.restart_controller(0).unwrap();
    }
    rests(bed).await;
    struck
}

fn lay(bed: &mut Testbed, proxy: &WriteProxy, place: Place) -> Sprung {
    let victim = bed.controller(0).unwrap().handle();
    proxy.arm(place, move |_| {
        victim.kill().unwrap();
        Fate::Drop
    })
}

/// Waits until no object is written any more.
pub(crate) async fn quiet(proxy: &WriteProxy) {
    let written = || proxy.counts().of(WriteClass::Object);
    let (mut seen, mut since) = (written(), Instant::now());
    while since.elapsed() < QUIET {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if written() != seen {
            (seen, since) = (written(), Instant::now());
        }
    }
}

/// Gives every place its turn, and those at which no write came three more: writes that happen together share one, so
/// that a run may have fewer than the first one had. Places at which none came in any turn are returned.
pub(crate) async fn each_in_turn(places: Vec<Place>, mut turn: impl AsyncFnMut(Place) -> bool) -> Vec<Place> {
    const TURNS: usize = 4;
    let mut left = places;
    for _ in 0..TURNS {
        let mut missed = Vec::new();
        for place in left {
            if !turn(place).await {
                missed.push(place);
            }
        }
        left = missed;
    }
    left
}

/// What was struck, or what was not.
pub(crate) fn named(place: Place, struck: Option<&Write>) -> String {
    struck.map_or_else(|| format!("{:?} {} did not come", place.class, place.number), Write::to_string)
}
