//! The examples are in `examples/examples`: one lesson a file.
