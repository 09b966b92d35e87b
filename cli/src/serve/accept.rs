//! Connections: accepted until told to stop, then served to their end.

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use agent_identity_api::CancellationToken;
use axum::Router;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections at once; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 1024;

/// How long a connection may still be quiet when the process is about to end.
const LAST_MOMENTS: Duration = Duration::from_secs(1);

/// How long the headers of a request may take to come in.
const HEADER_TIMEOUT: Duration = Duration::from_secs(20);

/// Ends when the process is about to and no request of the connection is under way; the connection's service holds one
/// reference, each request another.
async fn quiet(stopping: CancellationToken, busy: Weak<()>) {
    stopping.cancelled().await;
    loop {
        tokio::time::sleep(LAST_MOMENTS).await;
        if busy.strong_count() <= 1 {
            return;
        }
    }
}

/// Serves connections until `stop`, and gives those that are still open.
pub async fn until(
    stop: impl Future<Output = ()>,
    stopping: &CancellationToken,
    listener: TcpListener,
    router: Router,
) -> GracefulShutdown {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_headers(100);
    let mut stop = pin!(stop);
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            next = next => next,
            () = &mut stop => break,
        };
        let Ok((stream, _peer)) = accepted else {
            // Out of file descriptors, or a connection that died in the queue: neither ends the server.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _unsupported = stream.set_nodelay(true);
        let router = TowerToHyperService::new(router.clone());
        let busy = Arc::new(());
        let idle = quiet(stopping.clone(), Arc::downgrade(&busy));
        let service = service_fn(move |request| {
            let (answer, busy) = (router.call(request), Arc::clone(&busy));
            async move {
                let answer = answer.await;
                drop(busy);
                answer
            }
        });
        let connection = graceful.watch(server.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            tokio::select! {
                // A connection that breaks is its client's matter.
                _broken = connection => {}
                // One that is open for half a request holds nobody up.
                () = idle => {}
            }
            drop(place);
        });
    }
    graceful
}
