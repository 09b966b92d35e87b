//! A server on a free port of this machine, for as long as its value lives.

use std::io;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A port that is taken, but not served yet: its origin goes into what will be served.
pub(super) struct Bound {
    listener: TcpListener,
    origin: String,
}

/// A server that ends, after what is in flight, when this is dropped.
pub(super) struct Listener {
    origin: String,
    _stop: oneshot::Sender<()>,
}

impl Bound {
    /// Takes a free port of 127.0.0.1.
    ///
    /// # Errors
    /// Those of the operating system.
    pub async fn new() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let origin = format!("http://{}", listener.local_addr()?);
        Ok(Self { listener, origin })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Serves `router` from now on. Must be called inside a runtime.
    pub fn serve(self, router: Router) -> Listener {
        let (stop, stopped) = oneshot::channel::<()>();
        let server = axum::serve(self.listener, router).with_graceful_shutdown(async {
            // An error says that the sender was dropped, which is how it is told.
            let _ = stopped.await;
        });
        tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "a server of the quickstart ended");
            }
        });
        Listener { origin: self.origin, _stop: stop }
    }
}

impl Listener {
    /// `http://127.0.0.1:PORT`.
    pub fn origin(&self) -> &str {
        &self.origin
    }
}
