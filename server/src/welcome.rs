//! What the process says on standard output when it is ready: where it is, and lines to paste.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::Settings;

/// The lines. The first is for scripts too: `listening on http://ADDRESS:PORT` stands for each address.
pub(crate) fn welcome(settings: &Settings, addresses: &[SocketAddr], description: &str) -> String {
    let mut out = String::new();
    for address in addresses {
        let _ = writeln!(out, "listening on http://{address} ({description})");
    }
    let Some(first) = addresses.first() else { return out };
    let base = format!("http://{}", reachable(*first));
    let path = &settings.engine.path.0;
    let token = if settings.is_publish_open() { "" } else { "-H 'Authorization: Bearer TOKEN' " };
    if settings.server.page {
        let _ = writeln!(out, "live page:  {base}/");
    }
    let _ = writeln!(out, "subscribe:  curl -N '{base}{path}?topic=demo&transport=sse'");
    let _ = writeln!(out, "publish:    curl {token}-d hello '{base}{path}?topic=demo'");
    out
}

/// An address under which this machine reaches what listens at `address`: no browser opens `0.0.0.0`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Flag;

    fn settings(flags: &[(&str, &str)]) -> Settings {
        let flags: Vec<Flag> = flags
            .iter()
            .map(|(key, value)| Flag { flag: "test".into(), key: (*key).into(), value: (*value).into() })
            .collect();
        crate::config::load(None, |_| None, &flags).unwrap()
    }

    #[test]
    fn the_lines_can_be_pasted() {
        let address = "127.0.0.1:8080".parse().unwrap();
        assert_eq!(
            welcome(&settings(&[]), &[address], "2 shards, io_uring"),
            "listening on http://127.0.0.1:8080 (2 shards, io_uring)\n\
             live page:  http://127.0.0.1:8080/\n\
             subscribe:  curl -N 'http://127.0.0.1:8080/events?topic=demo&transport=sse'\n\
             publish:    curl -d hello 'http://127.0.0.1:8080/events?topic=demo'\n"
        );
    }

    #[test]
    fn what_is_configured_otherwise_is_said_so() {
        let settings = settings(&[
            ("listen", "[::]:80"),
            ("path", "/push"),
            ("page", "false"),
            ("publish_token_file", "tokens"),
        ]);
        let text = welcome(&settings, &["[::]:80".parse().unwrap()], "1 shard");
        assert!(
            text.contains("-H 'Authorization: Bearer TOKEN' -d hello 'http://[::1]:80/push?topic=demo'"),
            "{text}"
        );
        assert!(!text.contains("live page"));
    }
}
