//! What the fleet-manager says: whether it is there, its clock, its gateways, and the directory that they share.

use std::time::SystemTime;

use tidegate_proto::v1;

use super::clocks;
use super::finding::Finding;
use crate::exit::Failure;
use crate::operator::{Context, Options};

const NAME: &str = "fleet-manager";

pub(super) async fn look(options: &Options) -> Vec<Finding> {
    let context = match Context::connect(options).await {
        Ok(context) => context,
        Err(failure) => {
            let fix = "start one (tidegate fleet-manager), or name another with --manager or TIDEGATE_MANAGER";
            return vec![Finding::fail(NAME, failure.message, fix)];
        }
    };
    let asked = SystemTime::now();
    let (gateways, date) = match gateways(&context).await {
        Ok(answer) => answer,
        Err(failure) => return vec![Finding::fail(NAME, failure.message, "look at its log")],
    };
    let mut findings = vec![Finding::ok(NAME, format!("answers at {}", options.manager))];
    findings.extend(date.and_then(|date| clocks::against_manager(&date, asked, SystemTime::now())));
    findings.push(connected(&gateways));
    findings.extend(directories(&gateways));
    findings
}

/// The gateways, and the `date` of the answer.
async fn gateways(context: &Context) -> Result<(Vec<v1::Gateway>, Option<String>), Failure> {
    let mut routes = context.routes();
    let ask = async {
        let answer = routes.list_gateways(v1::ListGatewaysRequest {}).await?;
        let date = answer.metadata().get("date").and_then(|date| date.to_str().ok()).map(str::to_owned);
        Ok(tonic::Response::new((answer.into_inner().gateways, date)))
    };
    context.call(ask).await
}

fn connected(gateways: &[v1::Gateway]) -> Finding {
    let away: Vec<&str> = gateways.iter().filter(|g| !g.connected).map(|g| g.id.as_str()).collect();
    let what = match (gateways.len(), away.as_slice()) {
        (0, _) => "none is known: players cannot come in".to_owned(),
        (all, []) => format!("{all} of {all} connected"),
        (all, away) => format!("{} of {all} connected; away: {}", all - away.len(), away.join(", ")),
    };
    let fix = "start it (tidegate gateway), or look at its log: its `manager` must be this manager's address";
    Finding::ok_if(!gateways.is_empty() && away.is_empty(), "gateways", what, fix)
}

/// Whether the gateways' shared directory answers them; nothing is said where each keeps its own.
fn directories(gateways: &[v1::Gateway]) -> Option<Finding> {
    let shared: Vec<&v1::Gateway> = gateways.iter().filter(|g| g.connected && g.directory != "embedded").collect();
    let degraded = shared.iter().filter(|g| g.directory_state() == v1::DirectoryState::Degraded);
    let degraded: Vec<&str> = degraded.map(|g| g.id.as_str()).collect();
    let what = match degraded.as_slice() {
        [] => format!("answers all {} gateways that share it", shared.len()),
        degraded => format!("degraded: does not answer {}", degraded.join(", ")),
    };
    let fix = "start Redis, or look at it: players whose home is known play on, others wait in line";
    (!shared.is_empty()).then(|| Finding::ok_if(degraded.is_empty(), "session directory", what, fix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    fn gateway(id: &str, state: v1::DirectoryState) -> v1::Gateway {
        v1::Gateway {
            id: id.to_owned(),
            connected: true,
            directory: "redis://cache".to_owned(),
            directory_state: state.into(),
            ..v1::Gateway::default()
        }
    }

    #[test]
    fn a_directory_that_does_not_answer_is_named_by_its_gateways() {
        let well = gateway("gw-1", v1::DirectoryState::Ok);
        assert!(directories(std::slice::from_ref(&well)).is_some_and(|finding| finding.level == Level::Ok));
        let found = directories(&[well, gateway("gw-2", v1::DirectoryState::Degraded)]).expect("is said");
        assert_eq!(found.level, Level::Fail);
        assert!(found.what.contains("gw-2") && !found.what.contains("gw-1"), "{}", found.what);
        let alone = v1::Gateway { connected: true, directory: "embedded".to_owned(), ..v1::Gateway::default() };
        assert!(directories(&[alone]).is_none());
    }

    #[test]
    fn a_gateway_that_is_away_is_named() {
        let here = gateway("gw-1", v1::DirectoryState::Ok);
        let away = v1::Gateway { connected: false, ..gateway("gw-2", v1::DirectoryState::Ok) };
        assert_eq!(connected(std::slice::from_ref(&here)).level, Level::Ok);
        assert_eq!(connected(&[]).level, Level::Fail);
        let found = connected(&[here, away]);
        assert!(found.level == Level::Fail && found.what.ends_with("away: gw-2"), "{found:?}");
    }
}
