//! The labels of a shard's series, each text once, with the numbers of the series that have it.
//!
//! A series is the list of the places of its labels here, four bytes for each: of a million series with labels of 300 bytes that is a quarter of a gigabyte less
//! than their texts. The price is that whoever wants the labels of a series puts its text together, a fifth of a microsecond. A label goes with its last series.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use model::LabelsRef;

use super::ids::Ids;

/// What a label costs beside its text. One that each series has another value of costs more than all else.
const SYMBOL_BYTES: usize = 120;

/// A label.
#[derive(Debug, Default)]
struct Symbol {
    /// Its canonical text; empty where the place is free.
    pair: Arc<str>,
    ids: Ids,
}

/// The labels of a shard.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    /// For each name the places of its values.
    names: HashMap<Box<str>, HashTable<u32>>,
    all: Vec<Symbol>,
    free: Vec<u32>,
    /// The labels of the series that was added last: the next one shares most of them.
    before: Vec<u32>,
    hasher: DefaultHashBuilder,
    bytes: usize,
}

impl Symbol {
    fn label(&self) -> (&str, &str) {
        label(&self.pair)
    }
}

fn label(pair: &str) -> (&str, &str) {
    LabelsRef::from_canonical(pair).iter().next().unwrap_or_default()
}

impl Symbols {
    /// Adds a series. Returns the places of its labels, in their order.
    pub(super) fn add(&mut self, labels: LabelsRef<'_>, id: u32) -> Box<[u32]> {
        let (mut places, mut before) = (Vec::with_capacity(self.before.len()), 0);
        for pair in labels.pairs() {
            let known = self.before.get(before).copied();
            let place = match known.filter(|known| *self.all[*known as usize].pair == *pair) {
                Some(known) => {
                    before += 1;
                    known
                }
                None => {
                    let (name, value) = label(pair);
                    // Both ascend by name.
                    let is_passed = |known: &u32| self.all[*known as usize].label().0 < name;
                    while self.before.get(before).is_some_and(is_passed) {
                        before += 1;
                    }
                    match self.before.get(before).map(|known| (*known, &self.all[*known as usize])) {
                        Some((known, symbol)) if *symbol.pair == *pair => {
                            before += 1;
                            known
                        }
                        _ => self.place(name, value, pair),
                    }
                }
            };
            self.all[place as usize].ids.insert(id);
            places.push(place);
        }
        self.before.clone_from(&places);
        places.into()
    }

    /// The place of a label, which it is given if it has none yet.
    fn place(&mut self, name: &str, value: &str, pair: &str) -> u32 {
        let Symbols { names, all, free, hasher, bytes, .. } = self;
        let values = names.entry_ref(name).or_default();
        let hash = hasher.hash_one(value);
        if let Some(place) = values.find(hash, |place| *all[*place as usize].pair == *pair) {
            return *place;
        }
        let symbol = Symbol { pair: pair.into(), ids: Ids::default() };
        let place = match free.pop() {
            Some(place) => {
                all[place as usize] = symbol;
                place
            }
            None => {
                all.push(symbol);
                (all.len() - 1) as u32
            }
        };
        values.insert_unique(hash, place, |place| hasher.hash_one(all[*place as usize].label().1));
        *bytes += SYMBOL_BYTES + pair.len();
        place
    }

    /// Takes a series away that has these labels.
    pub(super) fn remove(&mut self, places: &[u32], id: u32) {
        // Places may be given anew.
        self.before.clear();
        for place in places {
            let symbol = &mut self.all[*place as usize];
            if !symbol.ids.remove(id) {
                continue;
            }
            let Symbol { pair, .. } = std::mem::take(symbol);
            let (name, value) = label(&pair);
            self.free.push(*place);
            self.bytes -= SYMBOL_BYTES + pair.len();
            let Some(values) = self.names.get_mut(name) else { continue };
            if let Ok(found) = values.find_entry(self.hasher.hash_one(value), |other| other == place) {
                found.remove();
            }
            if values.is_empty() {
                self.names.remove(name);
            }
        }
    }

    /// Appends the canonical text of a series that has these labels.
    pub(super) fn put_text(&self, places: &[u32], text: &mut String) {
        places.iter().for_each(|place| text.push_str(&self.all[*place as usize].pair));
    }

    /// Memory that they take, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives back what tables have too much.
    pub(super) fn shrink(&mut self) {
        let (all, hasher) = (&self.all, &self.hasher);
        let hash = |place: &u32| hasher.hash_one(all[*place as usize].label().1);
        self.names.values_mut().for_each(|values| values.shrink_to_fit(hash));
    }

    /// The texts by their places, shared.
    pub(super) fn texts(&self) -> Vec<Arc<str>> {
        self.all.iter().map(|symbol| symbol.pair.clone()).collect()
    }

    /// The series that have a label.
    pub(super) fn get(&self, name: &str, value: &str) -> Option<&Ids> {
        let is = |place: &u32| self.all[*place as usize].label().1 == value;
        let place = *self.names.get(name)?.find(self.hasher.hash_one(value), is)?;
        Some(&self.all[place as usize].ids)
    }

    /// The values of a name, each with the series that have it.
    pub(super) fn values_of(&self, name: &str) -> impl Iterator<Item = (&str, &Ids)> {
        self.names.get(name).into_iter().flat_map(|values| self.listed(values))
    }

    /// The names, each with its values and the series that have them.
    pub(super) fn names(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = (&str, &Ids)>)> {
        self.names.iter().map(|(name, values)| (&**name, self.listed(values)))
    }

    fn listed<'s>(&'s self, values: &'s HashTable<u32>) -> impl Iterator<Item = (&'s str, &'s Ids)> {
        values.iter().map(|place| {
            let symbol = &self.all[*place as usize];
            (symbol.label().1, &symbol.ids)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use model::Labels;

    use super::*;

    /// All labels with the series that have them.
    fn listed(symbols: &Symbols) -> BTreeMap<(String, String), BTreeSet<u32>> {
        let of_name = |name: &str| {
            let of = |(value, ids): (&str, &Ids)| ((name.to_owned(), value.to_owned()), ids.bitmap().iter().collect());
            symbols.values_of(name).map(of).collect::<Vec<_>>()
        };
        symbols.names().flat_map(|(name, _)| of_name(name)).collect()
    }

    #[test]
    fn labels_of_series_that_come_and_go_are_those_that_are_there() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut symbols, mut series) = (Symbols::default(), BTreeMap::<u32, (Labels, Box<[u32]>)>::new());
            for step in 0..random.u32(1..80) {
                let gone = series.keys().nth(random.usize(0..=series.len())).copied().filter(|_| random.u8(..3) == 0);
                if let Some((id, (_, places))) = gone.and_then(|id| series.remove_entry(&id)) {
                    symbols.remove(&places, id);
                }
                let mut pairs = vec![("name", format!("n{}", random.u8(..3)))];
                for name in ["a", "job", "pod", "zone"] {
                    if random.u8(..4) > 0 {
                        pairs.push((name, format!("{name}{}", random.u8(..4))));
                    }
                }
                let labels = Labels::new(&pairs).expect("valid");
                let places = symbols.add(labels.as_ref(), step);
                series.insert(step, (labels, places));
                let mut expect: BTreeMap<(String, String), BTreeSet<u32>> = BTreeMap::new();
                for (id, (labels, places)) in &series {
                    let mut text = String::new();
                    symbols.put_text(places, &mut text);
                    assert_eq!(text, labels.canonical(), "seed {seed}");
                    for (name, value) in labels.iter() {
                        expect.entry((name.to_owned(), value.to_owned())).or_default().insert(*id);
                        let ids = symbols.get(name, value).expect("there");
                        assert!(ids.contains(*id), "seed {seed}");
                    }
                }
                assert_eq!(listed(&symbols), expect, "seed {seed}");
                let texts: usize = expect.keys().map(|(name, value)| name.len() + value.len() + 2).sum();
                assert_eq!(symbols.bytes(), expect.len() * SYMBOL_BYTES + texts, "seed {seed}");
                assert!(symbols.get("name", "absent").is_none() && symbols.get("absent", "").is_none());
            }
        }
    }
}
