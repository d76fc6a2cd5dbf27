//! The payload of a record; signatures only, filled by the queue helper.
