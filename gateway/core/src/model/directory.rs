//! The directory that several gateways share: it answers late, does not answer although it has done what was asked, does
//! things once more when nobody expects it, forgets everything, and goes back to what it knew before.

use std::collections::VecDeque;

use super::World;
use crate::directory::{DirectoryAnswer, DirectoryOutcome, DirectoryRequest, EmbeddedDirectory};
use crate::input::Input;

/// How many older states it can fall back to.
const PAST: usize = 4;

/// What is wrong with the directory.
#[derive(Debug, Default)]
pub(super) struct Weather {
    down: bool,
    /// From now on nothing is wrong with it.
    calm: bool,
    past: VecDeque<EmbeddedDirectory>,
    /// Requests that will be done without anybody hearing of it.
    late: VecDeque<DirectoryRequest>,
    pub(super) wipes: u64,
    pub(super) fallbacks: u64,
    pub(super) unheard: u64,
    pub(super) repeats: u64,
}

impl Weather {
    pub(super) fn is_late(&self) -> bool {
        !self.late.is_empty()
    }

    pub(super) fn delay(&mut self, requests: Vec<DirectoryRequest>) {
        self.late.extend(requests);
    }
}

impl World {
    pub(super) fn ask_directory(&mut self, gateway: usize, choice: usize) {
        let Some(request) = self.gateways[gateway].questions.pop_front() else { return };
        if !self.is_shared() {
            let answer = self.directory.answer(request);
            return self.input_to(gateway, Input::Directory(answer));
        }
        let trouble = if self.weather.calm { usize::MAX } else { choice % 23 };
        let unavailable =
            DirectoryAnswer { id: request.id, who: request.who.clone(), outcome: DirectoryOutcome::Unavailable };
        if !self.weather.calm && choice.is_multiple_of(19) {
            self.weather.late.push_back(request.clone());
        }
        let answer = if self.weather.down && trouble.is_multiple_of(2) {
            unavailable
        } else {
            let answer = self.directory.answer(request);
            let unheard = self.weather.down || trouble == 7;
            self.weather.unheard += u64::from(unheard);
            if unheard { unavailable } else { answer }
        };
        if trouble == 11 {
            self.gateways[gateway].answers.push_back(Input::Directory(answer.clone()));
        }
        self.gateways[gateway].answers.push_back(Input::Directory(answer));
    }

    pub(super) fn do_late(&mut self) {
        if let Some(request) = self.weather.late.pop_front() {
            self.note(|| format!("* the directory does {request:?} once more"));
            self.weather.repeats += 1;
            self.directory.answer(request);
        }
    }

    /// Something happens to the directory.
    pub(super) fn directory_acts(&mut self, n: usize) {
        let noticed = match n % 8 {
            0 => {
                self.note(|| "* the directory is wiped".to_owned());
                self.weather.wipes += 1;
                self.directory = EmbeddedDirectory::default();
                (n / 8).is_multiple_of(2)
            }
            1 => {
                self.note(|| "* the directory is out of reach".to_owned());
                self.weather.down = true;
                false
            }
            2 | 3 => std::mem::take(&mut self.weather.down),
            4 | 5 => {
                self.weather.past.push_back(self.directory.clone());
                if self.weather.past.len() > PAST {
                    self.weather.past.pop_front();
                }
                false
            }
            _ => match self.weather.past.get(n / 8 % PAST).cloned() {
                Some(before) => {
                    self.note(|| "* the directory falls back".to_owned());
                    self.weather.fallbacks += 1;
                    self.directory = before;
                    n / 8 % 4 < 3
                }
                None => false,
            },
        };
        if noticed {
            self.directory_is_back();
        }
    }

    fn directory_is_back(&mut self) {
        for gateway in self.gateways.iter_mut().filter(|gateway| gateway.alive) {
            gateway.answers.push_back(Input::DirectoryUp);
        }
    }

    /// Nothing is wrong any more.
    pub(super) fn calm_directory(&mut self) {
        if !std::mem::replace(&mut self.weather.calm, true) {
            self.weather.down = false;
            self.directory_is_back();
        }
    }
}
