//! HTTP/1.1 messages (RFC 9112): heads, bodies, chunks, conditional requests, queries.
