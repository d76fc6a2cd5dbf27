//! The language: lexer, parser with source spans, types, evaluator over a [`model::SeriesSource`].
//!
//! Architecture invariant: no clock, no network, no global state; the same expression over the same series gives the
//! same bits. No input makes it panic, hang, or take quadratic time.

pub mod ast;
pub mod functions;
