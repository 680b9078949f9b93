//! Dead ends: states from which, without any further fault or choice of a player's, no way leads to where everyone is settled. A checker of single
//! paths cannot see them where the ways go in circles; so the whole graph is built, and walked backwards from the settled.

use std::collections::HashMap;

use crate::spec::{Spec, Step};
use crate::state::State;

/// What a walk over all states has found.
#[derive(Debug)]
pub struct Survey {
    /// How many states there are.
    pub states: usize,
    /// How many steps between them.
    pub steps: usize,
    /// The highest epoch in any.
    pub highest: u8,
    /// How many steps lead to an epoch that the case does not look at.
    pub beyond: usize,
    /// How many dead ends.
    pub dead_ends: usize,
    /// The way to the nearest dead end, and that state.
    pub example: Option<(Vec<Step>, Box<State>)>,
}

/// Walks over all states.
#[must_use]
pub fn dead_ends(spec: &Spec) -> Survey {
    let mut numbers: HashMap<State, u32> = HashMap::new();
    let mut parents: Vec<(u32, Option<Step>)> = vec![(0, None)];
    let mut edges: Vec<(u32, u32)> = Vec::new();
    let mut good: Vec<bool> = Vec::new();
    let mut steps = 0;
    let mut highest = 0;
    let mut beyond = 0;
    let mut level = vec![(0u32, spec.start())];
    numbers.insert(spec.start(), 0);
    good.push(spec.start().is_settled());
    while !level.is_empty() {
        let mut next_level = Vec::new();
        for (from, state) in level {
            highest = highest.max(state.saved);
            for (step, next) in spec.successors(&state) {
                steps += 1;
                let by_itself = Spec::is_bound_to_happen(&state, step);
                if !spec.is_within(&next) {
                    // Not looked at any further: the benefit of the doubt.
                    beyond += 1;
                    good[from as usize] |= by_itself;
                    continue;
                }
                let fresh = u32::try_from(numbers.len()).expect("fewer than 2^32 states");
                let to = *numbers.entry(next.clone()).or_insert(fresh);
                if to == fresh {
                    parents.push((from, Some(step)));
                    good.push(next.is_settled());
                    next_level.push((fresh, next));
                }
                if by_itself {
                    edges.push((to, from));
                }
            }
        }
        level = next_level;
    }
    spread(&mut good, edges);
    let dead = good.iter().filter(|good| !**good).count();
    let example = good.iter().position(|good| !good).map(|index| {
        let mut way = Vec::new();
        let mut at = index;
        while let (parent, Some(step)) = parents[at] {
            way.push(step);
            at = parent as usize;
        }
        way.reverse();
        let state = numbers.iter().find(|(_, number)| **number as usize == index);
        (way, Box::new(state.expect("it was numbered").0.clone()))
    });
    Survey { states: good.len(), steps, highest, beyond, dead_ends: dead, example }
}

/// Marks all from which a marked one can be reached; `edges` lead backwards.
fn spread(good: &mut [bool], mut edges: Vec<(u32, u32)>) {
    edges.sort_unstable();
    let mut open: Vec<usize> = (0..good.len()).filter(|index| good[*index]).collect();
    while let Some(at) = open.pop() {
        let number = u32::try_from(at).expect("numbers are 32 bits wide");
        let first = edges.partition_point(|(to, _)| *to < number);
        for (_, from) in edges[first..].iter().take_while(|(to, _)| *to == number) {
            if !std::mem::replace(&mut good[*from as usize], true) {
                open.push(*from as usize);
            }
        }
    }
}
