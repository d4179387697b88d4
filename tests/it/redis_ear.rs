//! A link to Redis and what it hears, and all that it is for.

use std::future::Future;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidewall::cluster::redis::Arrived;
use tidewall::cluster::redis::Link;
use tidewall::cluster::redis::error::LinkError;
use tidewall::cluster::redis::target::Target;
use tidewall::limits::CLUSTER_CHANNELS;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::{sleep, timeout};

use crate::support::PATIENCE;

/// What a server that is stopped or gone may cost before it is known: 3 s, and a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(8);
pub(crate) const TTL: Duration = Duration::from_secs(60);

pub(crate) fn run<T>(task: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().unwrap();
    runtime.block_on(async { timeout(4 * PATIENCE, task).await.unwrap() })
}

pub(crate) fn target(url: &str) -> Target {
    Target::parse(url, "wall", None).unwrap()
}

/// A link, and what it hears.
pub(crate) struct Ear {
    pub(crate) link: Link,
    pub(crate) inbox: Receiver<Arrived>,
}

impl Ear {
    pub(crate) async fn connect(target: &Target) -> Result<Ear, LinkError> {
        let (sender, inbox) = channel(64);
        let link = Link::connect(target, sender).await?;
        Ok(Ear { link, inbox })
    }

    pub(crate) async fn open(url: &str) -> Ear {
        Ear::connect(&target(url)).await.unwrap()
    }

    /// Once the other side is up again, as a service would.
    pub(crate) async fn reopen(url: &str) -> Ear {
        let until = Instant::now() + PATIENCE;
        loop {
            match Ear::connect(&target(url)).await {
                Ok(ear) => return ear,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn hear(&mut self) -> Bytes {
        timeout(PATIENCE, self.inbox.recv())
            .await
            .unwrap()
            .unwrap()
            .message
    }
}

pub(crate) async fn no_tasks_left() {
    let metrics = tokio::runtime::Handle::current().metrics();
    let until = Instant::now() + PATIENCE;
    while 0 < metrics.num_alive_tasks() {
        assert!(Instant::now() < until, "tasks are left");
        sleep(Duration::from_millis(10)).await;
    }
}

/// The error of a connection that is refused.
pub(crate) async fn refusal(target: &Target) -> LinkError {
    Ear::connect(target).await.err().expect("a refusal")
}

/// All that a link is for, on two of them.
pub(crate) async fn check_all(target: &Target) {
    let (mut a, mut b) = (
        Ear::connect(target).await.unwrap(),
        Ear::connect(target).await.unwrap(),
    );
    for channel in 0..CLUSTER_CHANNELS {
        let message = [channel as u8, 0, 13, 10, 255];
        a.link.publish(channel, &message).await.unwrap();
        // The one that said it hears it too.
        assert_eq!(a.hear().await, &message[..]);
        assert_eq!(b.hear().await, &message[..]);
    }
    let keyframe = vec![7; 300_000];
    a.link
        .store_keyframe("n:1", 5, &keyframe, TTL)
        .await
        .unwrap();
    a.link.store_keyframe("n:2", 9, b"old", TTL).await.unwrap();
    a.link.store_keyframe("n:2", 9, b"new", TTL).await.unwrap();
    assert_eq!(b.link.nodes().await.unwrap(), ["n:1", "n:2"]);
    a.link.leave("n:1").await.unwrap();
    assert_eq!(b.link.nodes().await.unwrap(), ["n:2"]);
    let mut load = async |node, channel| b.link.load_keyframe(node, channel).await.unwrap();
    assert_eq!(load("n:1", 5).await, Some(keyframe));
    assert_eq!(load("n:2", 9).await, Some(b"new".to_vec()));
    assert_eq!(load("n:3", 9).await, None);
    b.link.leave("n:1").await.unwrap();
    assert_eq!(b.link.nodes().await.unwrap(), ["n:2"]);
    assert_eq!((a.link.dropped(), b.link.dropped()), (0, 0));
}
