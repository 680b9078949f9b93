//! The way into the world: a ticket, as many attempts as the SDK advises, and the wait in line.

use std::time::Duration;

use rand::RngExt as _;
use tidegate_player::{Advice, Event, Events, PlayerEndpoint, Session, Welcome};
use tidegate_ticket::LoginClaims;
use tidegate_types::{Clock as _, SystemClock};
use tokio::time::Instant;

use super::{World, witness};
use crate::report::record_time;
use crate::roster::Person;

/// How long a login ticket is good for; as a login service would make it.
const TICKET_LIFE: Duration = Duration::from_secs(60);
/// After so many refused attempts a player gives up for now.
const LOGIN_ATTEMPTS: u32 = 8;
/// No advice makes a player wait longer before the next attempt.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Logs in, again and again as far as the SDK advises it, and waits in line.
pub(super) async fn log_in(
    world: &World,
    endpoint: &PlayerEndpoint,
    person: &Person,
    intended: Instant,
) -> Option<(Session, Events, Box<Welcome>)> {
    for _ in 0..LOGIN_ATTEMPTS {
        if world.finish.is_cancelled() {
            return None;
        }
        let client = world.client(person);
        let gateway = client.gateway[0];
        witness::asks(person, gateway);
        let pause = match endpoint.connect(client.clone(), ticket(world, person)).await {
            Ok((session, events)) => match welcomed(world, person, &session, events).await {
                Some((events, welcome)) => {
                    witness::welcome(person, &welcome);
                    record_time(&mut world.books.open().latencies.login, intended.elapsed());
                    return Some((session, events, welcome));
                }
                None => Duration::from_millis(500),
            },
            Err(error) => match witness::not_admitted(person, gateway, &error).advice() {
                Advice::TryAgain(after) => after,
                // An earlier session of the character has not ended everywhere yet.
                Advice::EndOther => LONGEST_PAUSE,
                Advice::NewTicket => Duration::from_millis(100),
                Advice::Update | Advice::Mend => {
                    tracing::warn!(player = %person.player, %error, "cannot log in");
                    break;
                }
            },
        };
        world.books.open().login_retries += 1;
        // Spread, so that those who were refused together do not come back together.
        let spread = rand::rng().random_range(0.5..1.5);
        tokio::time::sleep(pause.min(LONGEST_PAUSE).mul_f64(spread)).await;
    }
    world.books.open().login_gave_up += 1;
    None
}

/// Waits until the session is in play; `None` if it ends before, or if the simulation does.
async fn welcomed(
    world: &World,
    person: &Person,
    session: &Session,
    mut events: Events,
) -> Option<(Events, Box<Welcome>)> {
    let mut holding = false;
    let welcome = loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = world.finish.cancelled() => {
                session.logout().await;
                break None;
            }
        };
        match event {
            Some(Event::Welcome(welcome)) => break Some(welcome),
            Some(Event::Hold(hold)) if !holding => {
                holding = true;
                witness::hold(person, &hold.reason, world.client(person).gateway[0]);
                let mut books = world.books.open();
                books.holds += 1;
                books.live.holding += 1;
            }
            Some(Event::Closed(_)) | None => break None,
            Some(_) => {}
        }
    };
    if holding {
        world.books.open().live.holding -= 1;
    }
    welcome.map(|welcome| (events, welcome))
}

fn ticket(world: &World, person: &Person) -> String {
    let now = SystemClock.now().wall;
    world.login_key.mint(&LoginClaims {
        id: uuid::Uuid::new_v4(),
        realm: world.config.realm.clone(),
        player: person.player.clone(),
        character: person.character.clone(),
        party: person.party.as_ref().map(|party| party.id.clone()),
        client_version: world.config.client_version.clone(),
        issued: now,
        expires: now + TICKET_LIFE,
        cohorts: Vec::new(),
    })
}
