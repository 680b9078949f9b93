//! The gateways that a session knows: those of its configuration, and those that a gateway told it of. Pure.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;

use rand::Rng;
use rand::seq::SliceRandom as _;

/// Most gateways that are kept of one message: a realm has a handful, and a longer list only makes a round of attempts long.
const MOST_TOLD: usize = 16;
/// Longest "host:port" that is believed: a DNS name has at most 253 bytes.
const LONGEST_NAME: usize = 253 + 6;

/// Where a gateway listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Gateway {
    Address(SocketAddr),
    /// "host:port", looked up at each attempt.
    Name(Box<str>),
}

impl Gateway {
    /// `None` if the text is no "host:port".
    fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse() {
            return Some(Self::Address(address));
        }
        let (host, port) = text.rsplit_once(':')?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        let sound = !host.is_empty() && host.chars().all(plain) && text.len() <= LONGEST_NAME;
        (sound && port.parse::<u16>().is_ok_and(|port| port > 0)).then(|| Self::Name(text.into()))
    }

    /// The address, looked up if it is a name.
    pub(crate) async fn resolve(&self) -> std::io::Result<SocketAddr> {
        match self {
            Self::Address(address) => Ok(*address),
            // The socket is an IPv4 one.
            Self::Name(name) => tokio::net::lookup_host(&**name)
                .await?
                .find(SocketAddr::is_ipv4)
                .ok_or_else(|| std::io::Error::other("the name has no IPv4 address")),
        }
    }
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// All that a session knows.
#[derive(Debug, Clone)]
pub(crate) struct Gateways {
    configured: Vec<Gateway>,
    /// By the last `Welcome` or `Relocate` that named any.
    told: Vec<Gateway>,
}

impl Gateways {
    pub(crate) fn new(configured: &[SocketAddr]) -> Self {
        Self { configured: distinct(configured.iter().copied().map(Gateway::Address)), told: Vec::new() }
    }

    /// A gateway named these. Replaces what was told before, unless it says nothing.
    pub(crate) fn learn(&mut self, named: &[String]) {
        let told = parse_all(named);
        if !told.is_empty() {
            self.told = told;
        }
    }

    /// In the configuration's order: for a login.
    pub(crate) fn configured(&self) -> Vec<Gateway> {
        self.configured.clone()
    }

    /// The order in which a lost session asks. The gateway that served last comes first, since it needs no take-over and
    /// often only the connection broke; it comes last if it is known to stop. The others are shuffled, so that the players
    /// of a dead gateway spread over the living ones; those that no gateway names any more come after them.
    pub(crate) fn to_come_back(&self, last: &Gateway, stopping: bool, random: &mut impl Rng) -> Vec<Gateway> {
        let mut others = self.others(&[], last, random);
        others.insert(if stopping { others.len() } else { 0 }, last.clone());
        others
    }

    /// The order in which a session that shall move asks: those that its gateway named, best first, then the others.
    pub(crate) fn elsewhere(&self, named: &[String], here: &Gateway, random: &mut impl Rng) -> Vec<Gateway> {
        self.others(&parse_all(named), here, random)
    }

    fn others(&self, best: &[Gateway], here: &Gateway, random: &mut impl Rng) -> Vec<Gateway> {
        let (mut told, mut configured) = (self.told.clone(), self.configured.clone());
        told.shuffle(random);
        configured.shuffle(random);
        let all = best.iter().cloned().chain(told).chain(configured);
        distinct(all.filter(|gateway| gateway != here))
    }
}

fn parse_all(named: &[String]) -> Vec<Gateway> {
    distinct(named.iter().filter_map(|text| Gateway::parse(text)).take(MOST_TOLD))
}

fn distinct(gateways: impl Iterator<Item = Gateway>) -> Vec<Gateway> {
    let mut seen = HashSet::new();
    gateways.filter(|gateway| seen.insert(gateway.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    fn address(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn at(port: u16) -> Gateway {
        Gateway::Address(address(port))
    }

    fn named(ports: impl IntoIterator<Item = u16>) -> Vec<String> {
        ports.into_iter().map(|port| address(port).to_string()).collect()
    }

    fn random() -> StdRng {
        StdRng::seed_from_u64(7)
    }

    #[test]
    fn addresses_and_names_are_understood_and_nonsense_is_not() {
        assert_eq!(Gateway::parse("10.0.0.1:7443"), Some(Gateway::Address(([10, 0, 0, 1], 7443).into())));
        assert_eq!(Gateway::parse("gw-1.example:7443"), Some(Gateway::Name("gw-1.example:7443".into())));
        let long = format!("{}:1", "x".repeat(300));
        for text in ["", "gw-1", ":7443", "gw-1:", "gw-1:0", "gw-1:70000", "g w:1", "gw/1:1", &long] {
            assert_eq!(Gateway::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_last_gateway_is_asked_first_unless_it_stops() {
        let mut gateways = Gateways::new(&[address(1), address(2), address(1)]);
        gateways.learn(&named([2, 3]));
        for stopping in [false, true] {
            let order = gateways.to_come_back(&at(2), stopping, &mut random());
            let expect = if stopping { [at(3), at(1), at(2)] } else { [at(2), at(3), at(1)] };
            assert_eq!(order, expect, "each once, the one that is still named before the one that is not");
        }
    }

    #[test]
    fn what_is_told_replaces_what_was_told_and_silence_does_not() {
        let mut gateways = Gateways::new(&[address(1)]);
        gateways.learn(&named([2]));
        gateways.learn(&named([3]));
        gateways.learn(&[]);
        gateways.learn(&["nonsense".into()]);
        assert_eq!(gateways.elsewhere(&[], &at(1), &mut random()), [at(3)]);
    }

    #[test]
    fn a_list_is_cut_to_a_bound() {
        let mut gateways = Gateways::new(&[]);
        gateways.learn(&named(1..=1_000));
        assert_eq!(gateways.told.len(), MOST_TOLD);
    }

    #[test]
    fn a_relocation_goes_to_the_named_ones_best_first() {
        let mut gateways = Gateways::new(&[address(1), address(2)]);
        gateways.learn(&named([1, 2, 3, 4]));
        let order = gateways.elsewhere(&named([4, 1, 3]), &at(1), &mut random());
        assert_eq!(order, [at(4), at(3), at(2)]);
    }

    #[test]
    fn the_players_of_a_dead_gateway_spread() {
        let mut gateways = Gateways::new(&[address(1)]);
        gateways.learn(&named([1, 2, 3]));
        let mut random = random();
        let seconds: HashSet<Gateway> =
            (0..50).map(|_| gateways.to_come_back(&at(1), false, &mut random)[1].clone()).collect();
        assert_eq!(seconds, HashSet::from([at(2), at(3)]));
    }
}
