//! The language: lexer, parser with source spans, types, evaluator over a [`model::SeriesSource`].
//!
//! Architecture invariant: no clock, no network, no global state; the same expression over the same series gives the
//! same bits. No input makes it panic, hang, or take quadratic time.

pub mod ast;
mod confine;
mod error;
pub mod eval;
mod features;
pub mod functions;
mod histogram;
mod lexer;
pub mod notation;
mod parser;
mod printer;
mod raw;
mod selectors;
mod work;

pub use confine::confine;
pub use error::ParseError;
pub use eval::format::{general, plain};
pub use eval::{
    Consumed, Element, EvalError, Evaluation, Explanation, Measured, Params, Point, Stats, Text, Value, analyze,
    consumed, evaluate, evaluate_text, explain,
};
pub use features::Features;
pub use histogram::{Bucket, FloatHistogram};
pub use parser::{DEPTH_MAX, LENGTH_MAX, NESTING_MAX, parse, parse_match, parse_selector};
pub use printer::quote;
pub use raw::{has_bytes, readable};
pub use selectors::{Selector, selectors};
