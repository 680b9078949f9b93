//! What a game client links to play through Tidegate.
//!
//! ```no_run
//! # async fn play(ticket: String) -> Result<(), Box<dyn std::error::Error>> {
//! use tidegate_player::{Client, ClientConfig, Event, Roots};
//!
//! let config = ClientConfig::new(vec!["127.0.0.1:7443".parse()?], "localhost", "eu-1".parse()?, "1.0.0");
//! let (session, mut events) = Client::connect(&Roots::PemFile("ca.pem".into()), config, ticket).await?;
//! session.send("hello".into()).await?;
//! while let Some(event) = events.next().await {
//!     match event {
//!         Event::Game(body) => println!("{} bytes from the world", body.len()),
//!         Event::Moved(moved) => println!("now in {}", moved.home.environment),
//!         Event::Closed(closed) => println!("over: {}", closed.reason),
//!         _ => {}
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! A session outlives its connection, and its gateway: when the connection is lost, the session comes back by itself with its
//! resume ticket within the grace time, through any gateway it knows, and reliable frames arrive once and in order across the
//! gap. A gateway that is about to stop has its players move to another one while they play on. Refuses to know the game:
//! frames and datagrams are opaque bytes.

mod backoff;
mod config;
mod convert;
mod driver;
mod endpoint;
mod error;
mod event;
mod gateways;
mod round;
mod session;
mod silence;
mod window;
mod wire;

pub use config::{ClientConfig, Roots};
pub use endpoint::{Client, PlayerEndpoint};
pub use error::{Advice, ConnectError, DatagramError, EndpointError, Refusal, SendError};
pub use event::{CloseReason, Closed, Event, Hold, Home, Moved, Notice, Welcome};
pub use session::{Events, Session};
