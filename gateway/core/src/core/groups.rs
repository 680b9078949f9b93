//! Groups at a boundary: one decision for all of them (rule 10), and none commits before all are ready.

use std::collections::BTreeSet;

use tidegate_types::Cause;

use super::{Core, Cx};
use crate::decide::{BoundaryAsk, Decision, Refuse, decide_boundary};
use crate::handover::{Event, Reason, Seat};
use crate::key::{ServerKey, SessionKey};
use crate::message::{Place, ToWorld};
use crate::session::State;

/// Most members of one transfer.
const MAX_GROUP: usize = 64;

/// Sessions that cross a boundary together: none commits before all are ready.
#[derive(Debug)]
pub(super) struct Group {
    members: BTreeSet<SessionKey>,
    ready: BTreeSet<SessionKey>,
}

impl Core {
    pub(super) fn on_transfer(&mut self, from: ServerKey, handles: &[u32], to: &Place, cause: Cause, cx: &mut Cx<'_>) {
        let mut members = Vec::new();
        for handle in handles {
            let seat = Seat { server: from, handle: *handle };
            let Some(key) = self.session_at(seat) else { continue };
            let free = self.sessions[key.index()].home_at_rest() == Some(seat);
            if free && cause.is_boundary() && members.len() < MAX_GROUP && !members.contains(&(key, seat)) {
                members.push((key, seat));
            } else {
                self.refuse_transfer(seat, "busy", cx);
            }
        }
        let (Some(table), Some((first, _))) = (&self.table, members.first()) else { return };
        let Some(pin) = &self.sessions[first.index()].pin else { return };
        let ask = BoundaryAsk {
            environment: &pin.environment,
            server: from,
            members: u32::try_from(members.len()).unwrap_or(u32::MAX),
            place: to,
            cause,
        };
        let decided = decide_boundary(table, &self.servers, &ask);
        if decided.fell_back {
            self.counters.boundary_fallbacks += 1;
        }
        match decided.decision {
            Decision::Route(permit) => {
                let keys = members.iter().map(|(key, _)| *key).collect();
                let group = self.groups.insert(Group { members: keys, ready: BTreeSet::new() });
                let group = super::servers::key_of(group).0;
                for (key, seat) in members {
                    self.start_handover(key, seat, permit.clone(), Reason::Boundary { group }, cx);
                }
            }
            Decision::Refuse(refuse) => {
                for (key, seat) in members {
                    if refuse == Refuse::Here {
                        // The server puts them there itself; who follows them into an instance must find it.
                        self.note_place(key, seat, to.clone());
                        self.dirty.insert(key);
                    }
                    self.refuse_transfer(seat, refuse.as_str(), cx);
                }
            }
            Decision::Hold(_) => {
                for (_, seat) in members {
                    self.refuse_transfer(seat, "no_server", cx);
                }
            }
        }
    }

    pub(super) fn refuse_transfer(&mut self, seat: Seat, reason: &'static str, cx: &mut Cx<'_>) {
        if reason != "here" {
            self.counters.transfers_refused += 1;
        }
        cx.tell_world(seat, ToWorld::TransferRefused { reason });
    }

    pub(super) fn announce_ready(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        let State::Moving(h) = &self.sessions[key.index()].state else { return };
        let Reason::Boundary { group } = h.reason else {
            self.handover_event(key, Event::GroupReady, cx);
            return;
        };
        let Some(state) = self.groups.get_mut(group as usize) else { return };
        state.ready.insert(key);
        if state.ready == state.members {
            let members = self.groups.remove(group as usize).members;
            for member in members {
                self.handover_event(member, Event::GroupReady, cx);
            }
        }
    }

    /// One of the group cannot go: nobody goes.
    pub(super) fn group_failed(&mut self, key: SessionKey, group: u32, cx: &mut Cx<'_>) {
        let is_member = self.groups.get(group as usize).is_some_and(|g| g.members.contains(&key));
        if !is_member {
            return;
        }
        let members = self.groups.remove(group as usize).members;
        for member in members.into_iter().filter(|member| *member != key) {
            self.handover_event(member, Event::GroupFailed, cx);
        }
    }
}
