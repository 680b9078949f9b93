//! The command of a build whose world servers are reached through a relay: a word before the real command, which asks the
//! cluster for a relay, sets the address to announce, and becomes the real command.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// The word.
pub const WORD: &str = "world-line";

/// Becomes `command` (program and arguments), reached through a relay that the cluster's `desk` gives.
///
/// # Errors
/// The system's, when there is no relay or no such program. On success it does not return.
pub fn become_world(desk: &str, command: &[String]) -> io::Error {
    let Some((program, arguments)) = command.split_first() else {
        return io::Error::other("no command");
    };
    match announced(desk) {
        Ok((listens, announces)) => Command::new(program)
            .args(arguments)
            .env("TIDEGATE_LINK_LISTEN", listens.to_string())
            .env("TIDEGATE_LINK_ADVERTISE", announces)
            .exec(),
        Err(error) => error,
    }
}

/// A free address to listen at, and the relay's before it.
fn announced(desk: &str) -> io::Result<(SocketAddr, String)> {
    let listens = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let id = std::env::var("TIDEGATE_SERVER_ID").map_err(io::Error::other)?;
    let mut stream = TcpStream::connect(desk)?;
    writeln!(stream, "{id} {listens}")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    if answer.trim().is_empty() {
        return Err(io::Error::other("the desk gave no relay"));
    }
    Ok((listens, answer.trim().to_owned()))
}
