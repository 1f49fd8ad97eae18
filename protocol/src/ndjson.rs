//! Newline-delimited JSON: one JSON text a line.
