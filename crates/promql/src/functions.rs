//! The table of functions: names, argument types, result types.

use crate::ast::ValueType;

/// What the parser knows of a function.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// The types of its arguments, optional ones included.
    pub args: &'static [ValueType],
    /// How many of the last arguments may be left out; `None` if the last one may be repeated or left out at will.
    pub optional: Option<usize>,
    /// The type of its result.
    pub returns: ValueType,
    /// Whether it needs the feature `promql-experimental-functions`.
    pub experimental: bool,
}

/// The function of that name.
pub fn lookup(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|f| f.name == name)
}

const FUNCTIONS: &[Function] = &[];
