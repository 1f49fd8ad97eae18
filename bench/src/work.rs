//! The work that every server is given alike.
