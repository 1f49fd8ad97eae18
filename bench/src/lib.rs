//! Benches of the codecs and of the engine, each beside a floor measured in the same run.
