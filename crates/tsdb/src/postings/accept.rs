//! Which values of a label a matcher wants, asked of one value after the other.
//!
//! Where there are many in their order, the pattern is made an automaton, of which the states along a value are kept: of the next value only what differs from
//! it is looked at, and of those that begin with what no value may begin with nothing at all.

use model::Matcher;
use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::util::primitives::StateID;
use regex_automata::{Anchored, Input};

/// Values from which on making an automaton, a tenth of a millisecond, is worth it.
const VALUES_MIN: usize = 2000;
/// Memory of an automaton, and of making it. A pattern that needs more is tried on each value as a whole.
const AUTOMATON_BYTES_MAX: usize = 256 << 10;

/// Says which values are wanted.
pub(crate) struct Accept<'a> {
    matcher: &'a Matcher,
    /// Whether those are wanted that meet the matcher.
    met: bool,
    automaton: Option<Automaton>,
}

struct Automaton {
    dfa: dense::DFA<Vec<u32>>,
    /// After so many bytes of the value before; it ends early where nothing can be accepted any more.
    states: Vec<StateID>,
    /// Whether what the automaton accepts meets the matcher.
    negated: bool,
}

impl<'a> Accept<'a> {
    /// Wants the values that meet a matcher.
    pub(crate) fn met(matcher: &'a Matcher) -> Self {
        Accept { matcher, met: true, automaton: None }
    }

    /// Wants the values that do not.
    pub(crate) fn not_met(matcher: &'a Matcher) -> Self {
        Accept { matcher, met: false, automaton: None }
    }

    /// Prepares for so many values in their order.
    pub(crate) fn expect(&mut self, values: usize) {
        if values >= VALUES_MIN && self.automaton.is_none() {
            self.automaton = Automaton::new(self.matcher);
        }
    }

    /// Forgets the value before.
    pub(crate) fn begin(&mut self) {
        if let Some(automaton) = &mut self.automaton {
            automaton.states.truncate(1);
        }
    }

    /// Whether a value is wanted that has so many bytes in common with the one before, at least.
    pub(crate) fn accepts(&mut self, value: &str, shared: usize) -> bool {
        let met = match &mut self.automaton {
            Some(automaton) => automaton.accepts(value.as_bytes(), shared) != automaton.negated,
            None => self.matcher.matches(value),
        };
        met == self.met
    }
}

impl Automaton {
    fn new(matcher: &Matcher) -> Option<Automaton> {
        let pattern = matcher.anchored_pattern()?;
        let limit = Some(AUTOMATON_BYTES_MAX);
        let config = dense::Config::new().start_kind(StartKind::Anchored).dfa_size_limit(limit);
        let config = config.determinize_size_limit(limit);
        let dfa = dense::Builder::new().configure(config).build(&pattern).ok()?;
        let start = dfa.start_state_forward(&Input::new("").anchored(Anchored::Yes)).ok()?;
        Some(Automaton { dfa, states: vec![start], negated: matcher.op == model::MatchOp::NotRegex })
    }

    fn accepts(&mut self, value: &[u8], shared: usize) -> bool {
        let known = shared.min(self.states.len() - 1);
        self.states.truncate(known + 1);
        let mut state = self.states[known];
        for byte in value.iter().skip(known) {
            if self.dfa.is_dead_state(state) {
                return false;
            }
            state = self.dfa.next_state(state, *byte);
            self.states.push(state);
        }
        self.dfa.is_match_state(self.dfa.next_eoi_state(state))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use model::MatchOp;

    use super::*;

    #[test]
    fn the_automaton_accepts_what_the_pattern_does() {
        let mut random = fastrand::Rng::with_seed(1);
        let letters = ['a', 'b', '-', '7', 'ä', '\n'];
        let mut values: BTreeSet<String> = BTreeSet::from([String::new()]);
        while values.len() < 3000 {
            values.insert((0..random.usize(1..9)).map(|_| letters[random.usize(..letters.len())]).collect());
        }
        let values: Vec<String> = values.into_iter().collect();
        let patterns =
            ["a.*-.*7[0-9]?", "(a|b)+", "", ".*", "a$|b.", "[^a]*", ".+ä.*", "(?i)A-.*", r"\w+-\w+", "a{3,}", "x.*"];
        for pattern in patterns {
            for op in [MatchOp::Regex, MatchOp::NotRegex] {
                let matcher = Matcher::new(op, "l", pattern).expect("compiles");
                for mut accept in [Accept::met(&matcher), Accept::not_met(&matcher)] {
                    accept.expect(values.len());
                    let (mut before, mut skips) = ("", 0);
                    for value in &values {
                        // As at the beginning of a page, or of a prefix.
                        if random.u8(..50) == 0 {
                            accept.begin();
                            skips += 1;
                            before = value;
                            assert_eq!(accept.accepts(value, 0), matcher.matches(value) == accept.met, "{value:?}");
                            continue;
                        }
                        let shared = before.bytes().zip(value.bytes()).take_while(|(a, b)| a == b).count();
                        let told = accept.accepts(value, random.usize(..=shared));
                        assert_eq!(told, matcher.matches(value) == accept.met, "{matcher} on {value:?}");
                        before = value;
                    }
                    assert!(skips > 0);
                }
            }
        }
    }

    #[test]
    fn a_pattern_that_is_too_large_or_no_automaton_is_tried_as_it_is() {
        for (pattern, is_one) in [("a.*b", true), (r"a\b.*", false), ("(a|b)*a(a|b){12}", false)] {
            let matcher = Matcher::new(MatchOp::Regex, "l", pattern).expect("compiles");
            let mut accept = Accept::met(&matcher);
            accept.expect(VALUES_MIN);
            assert_eq!(accept.automaton.is_some(), is_one, "{pattern}");
            assert_eq!(accept.accepts("axb", 0), matcher.matches("axb"));
        }
    }
}
