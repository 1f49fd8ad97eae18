//! The event stream format (WHATWG HTML, "Server-sent events"): events to bytes, and back.
