//! A server that a file describes: for measuring one that this program does not know.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{PORT, UPGRADE, connections_max, get, in_query, with_body};
use crate::target::{Publish, Subscribe, Target, Wire};

/// The file, as TOML. `{topic}`, `{cursor}` and `{port}` stand for what they say: the topic in the form of a
/// query's value (RFC 3986, section 3.4), the cursor of the last answer, and the port of the subscribers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    /// What tables call it.
    name: String,
    /// The program, and its arguments. It stays in the foreground.
    command: Vec<String>,
    /// Port of the subscribers, on all addresses.
    #[serde(default = "port")]
    port: u16,
    subscribe: Subscribing,
    publish: Publishing,
    /// Most connections that it can hold.
    connections: Option<usize>,
    /// Whether it has more than one topic.
    #[serde(default = "yes")]
    has_topics: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscribing {
    /// Path and query.
    path: String,
    /// Path and query of one that comes back with a cursor, or polls on.
    resume: Option<String>,
    /// Further lines of the head. Those of a WebSocket's handshake need not be named.
    #[serde(default)]
    headers: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Publishing {
    /// Where, if not at the port of the subscribers.
    port: Option<u16>,
    #[serde(default = "post")]
    method: String,
    /// Path and query; the body is the event.
    path: String,
    /// Further lines of the head.
    #[serde(default)]
    headers: Vec<String>,
}

fn port() -> u16 {
    PORT
}

fn yes() -> bool {
    true
}

fn post() -> String {
    "POST".to_owned()
}

/// The server that the file at `path` describes, spoken to over `wire`.
pub(super) fn target(path: &Path, wire: Wire) -> Result<Target, String> {
    let text = super::small::read(path)?;
    parse(&text, wire).map_err(|error| format!("{}: {error}", path.display()))
}

fn parse(text: &str, wire: Wire) -> Result<Target, String> {
    let Described { name, command, port, subscribe, publish, connections, has_topics } =
        toml::from_str(text).map_err(|error| error.to_string())?;
    let (program, arguments) = command.split_first().ok_or("command names no program")?;
    let mut more = lines(&subscribe.headers)?;
    match wire {
        Wire::Sse => more += "Accept: text/event-stream\r\n",
        Wire::WebSocket => more += UPGRADE,
        Wire::Stream => {}
        Wire::LongPoll if subscribe.resume.is_some() => {}
        Wire::LongPoll => return Err("subscribe.resume is missing, which a long poll goes on with".into()),
        Wire::MqttWebSocket => return Err("MQTT cannot be described".into()),
    }
    let (path, again_with) = (subscribe.path, more.clone());
    let opening = move |topic: &str| vec![get(&path.replace("{topic}", &in_query(topic)), &more)];
    let again = subscribe.resume.map(|resume| -> crate::target::Again {
        Box::new(move |topic, cursor| {
            let path = resume.replace("{topic}", &in_query(topic)).replace("{cursor}", &in_query(cursor));
            get(&path, &again_with)
        })
    });
    let (fields, method) = (lines(&publish.headers)?, publish.method);
    let request = move |topic: &str, data: &[u8]| {
        with_body(&method, &publish.path.replace("{topic}", &in_query(topic)), &fields, data)
    };
    let filled = |word: &String| word.replace("{port}", &port.to_string());
    Ok(Target {
        name: format!("{name} ({wire:?})"),
        program: PathBuf::from(program),
        arguments: arguments.iter().map(|word| filled(word).into()).collect(),
        environment: Vec::new(),
        port,
        subscribe: Subscribe { wire, opening: Box::new(opening), again },
        publish: Publish::Http { port: publish.port.unwrap_or(port), request: Box::new(request) },
        has_topics,
        connections_max: connections.unwrap_or_else(connections_max),
    })
}

/// Header fields as lines of a head.
fn lines(fields: &[String]) -> Result<String, String> {
    match fields.iter().find(|field| field.contains(['\r', '\n']) || !field.contains(':')) {
        Some(field) => Err(format!("{field:?} is no header field: Name: value")),
        None => Ok(fields.iter().map(|field| format!("{field}\r\n")).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        name = "push 1.0"
        command = ["/usr/bin/push", "--port", "{port}"]
        [subscribe]
        path = "/sub?id={topic}"
        headers = ["A: b"]
        resume = "/sub?id={topic}&since={cursor}"
        [publish]
        port = 9000
        path = "/pub?id={topic}"
        method = "PUT"
    "#;

    #[test]
    fn a_file_says_how_a_server_is_started_subscribed_to_and_published_to() {
        let target = parse(FILE, Wire::Sse).unwrap();
        assert_eq!(target.arguments, ["--port", "65001"]);
        let asked = String::from_utf8((target.subscribe.opening)("a b").remove(0)).unwrap();
        assert_eq!(
            asked,
            "GET /sub?id=a%20b HTTP/1.1\r\nHost: localhost\r\nA: b\r\nAccept: text/event-stream\r\n\r\n"
        );
        let again = String::from_utf8(target.subscribe.again.unwrap()("t", "7")).unwrap();
        assert!(again.starts_with("GET /sub?id=t&since=7 HTTP/1.1\r\n"), "{again}");
        let Publish::Http { port: 9_000, request } = target.publish else { panic!("over HTTP, at 9000") };
        let request = String::from_utf8(request("t", b"data")).unwrap();
        assert!(request.starts_with("PUT /pub?id=t HTTP/1.1\r\n"), "{request}");
        assert!(request.ends_with("Content-Length: 4\r\n\r\ndata"), "{request}");
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        let without = FILE.replace("resume = \"/sub?id={topic}&since={cursor}\"", "");
        for (text, wire, named) in [
            (without.as_str(), Wire::LongPoll, "subscribe.resume"),
            ("name = 'a'", Wire::Sse, "command"),
            (&FILE.replace("name =", "nam ="), Wire::Sse, "nam"),
            (&FILE.replace("\"A: b\"", "\"A\""), Wire::Sse, "no header field"),
        ] {
            let error = parse(text, wire).err().unwrap();
            assert!(error.contains(named), "{error}");
        }
    }
}
