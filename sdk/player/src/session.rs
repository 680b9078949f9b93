//! The two handles of a session: one to speak, one to listen. What they share with the session's task is a window of frames
//! under a short lock, so that a frame costs no message between tasks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tidegate_proto::frame::MAX_GAME_BODY;
use tokio::sync::{Notify, mpsc};

use crate::endpoint::PlayerEndpoint;
use crate::error::{DatagramError, EndpointError, SendError};
use crate::event::Event;
use crate::window::SendWindow;

/// Events that may wait to be read; then the session stops reading its stream, and the gateway is slowed down in turn.
pub(crate) const EVENTS: usize = 256;

/// Speaks for the player. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Session {
    pub(crate) shared: Arc<Shared>,
}

/// Hears for the player. Dropping it gives the session up without a logout: its place is kept for the grace time.
#[derive(Debug)]
pub struct Events {
    pub(crate) receiver: mpsc::Receiver<Event>,
}

/// How far the end of the session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Open,
    /// The player wants to log out.
    LoggingOut,
    Over,
}

#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) window: SendWindow,
    pub(crate) stage: Stage,
    /// Longest frame that the gateway takes, in bytes.
    pub(crate) max_frame: usize,
    /// The present connection, for datagrams.
    pub(crate) connection: Option<quinn::Connection>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) endpoint: PlayerEndpoint,
    outbox: Mutex<Outbox>,
    /// Wakes the session's task: there is something to write, or to end.
    pub(crate) work: Notify,
    /// Wakes those who wait for room in the window, or for the end.
    pub(crate) progress: Notify,
}

impl Shared {
    pub(crate) fn new(endpoint: PlayerEndpoint) -> Arc<Self> {
        let outbox =
            Outbox { window: SendWindow::default(), stage: Stage::Open, max_frame: MAX_GAME_BODY, connection: None };
        Arc::new(Self { endpoint, outbox: Mutex::new(outbox), work: Notify::new(), progress: Notify::new() })
    }

    pub(crate) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        // Every change under the lock is whole, so what a panicking thread left is still right.
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Sends a reliable frame: it arrives once and in order, over lost connections and changes of home. Waits while 256
    /// frames or 64 KiB are unacknowledged. Keep reading [`Events`] meanwhile: acknowledgements come the same way.
    ///
    /// # Errors
    /// [`SendError::Closed`] or [`SendError::TooLong`].
    pub async fn send(&self, body: Bytes) -> Result<(), SendError> {
        loop {
            // Registered before the look at the window, so that no wake-up between the two is missed.
            let progress = self.shared.progress.notified();
            match self.try_send(body.clone()) {
                Err(SendError::Full) => progress.await,
                done => return done,
            }
        }
    }

    /// As [`Self::send`], but refuses instead of waiting.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn try_send(&self, body: Bytes) -> Result<(), SendError> {
        let mut outbox = self.shared.outbox();
        if outbox.stage != Stage::Open {
            return Err(SendError::Closed);
        }
        if body.len() > outbox.max_frame {
            return Err(SendError::TooLong { length: body.len(), limit: outbox.max_frame });
        }
        if !outbox.window.has_room(body.len()) {
            return Err(SendError::Full);
        }
        outbox.window.push(body);
        drop(outbox);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Sends an unreliable message at once; when too many wait, the oldest is dropped.
    ///
    /// # Errors
    /// [`DatagramError`]; a game usually ignores it.
    pub fn datagram(&self, payload: Bytes) -> Result<(), DatagramError> {
        let outbox = self.shared.outbox();
        let connection = outbox.connection.as_ref().ok_or(DatagramError::NotConnected)?;
        connection.send_datagram(payload).map_err(|e| match e {
            quinn::SendDatagramError::TooLarge => DatagramError::TooLong,
            quinn::SendDatagramError::UnsupportedByPeer
            | quinn::SendDatagramError::Disabled
            | quinn::SendDatagramError::ConnectionLost(_) => DatagramError::NotConnected,
        })
    }

    /// Ends the session: what was sent before is delivered first. Returns when the gateway has confirmed it, or after the
    /// configured `logout_timeout`. Keep reading [`Events`] meanwhile; [`Event::Closed`] is the last of them.
    pub async fn logout(&self) {
        {
            let mut outbox = self.shared.outbox();
            if outbox.stage == Stage::Open {
                outbox.stage = Stage::LoggingOut;
            }
        }
        self.shared.work.notify_one();
        loop {
            let progress = self.shared.progress.notified();
            if self.shared.outbox().stage == Stage::Over {
                return;
            }
            progress.await;
        }
    }

    /// For a client whose system says that its network changed: opens a new socket, to which the connections of **all**
    /// sessions of this endpoint move. Nothing is lost, and the owner hears nothing; if the connection cannot be moved, the
    /// session comes back as after any other loss. It also does so by itself, later, when nothing arrives any more.
    ///
    /// # Errors
    /// [`EndpointError::Socket`]; the session goes on with the old socket.
    pub fn network_changed(&self) -> Result<(), EndpointError> {
        self.shared.endpoint.rebind()
    }

    /// Gives the present connection up and comes back on a new one.
    pub fn reconnect(&self) {
        if let Some(connection) = self.shared.outbox().connection.take() {
            connection.close(quinn::VarInt::from_u32(tidegate_proto::CloseCode::Internal as u32), b"reconnect");
        }
    }
}

impl Events {
    /// The next event; `None` after [`Event::Closed`].
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }

    /// The next event if there is one already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.receiver.try_recv().ok()
    }
}
