//! Properties over random series.
