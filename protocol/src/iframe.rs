//! The forever-frame iframe page: an HTML document that never ends, one script element an event.
