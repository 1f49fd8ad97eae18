//! nginx with the module nchan.

use std::path::Path;

use super::install::{self, NCHAN, NGINX};
use super::{CONTROL_PORT, Folder, PORT, UPGRADE, connections_max, get, in_query, post, write};
use crate::target::{Publish, Subscribe, Target, Wire};

/// nchan tells the place of an answer to a long poll in two header fields, which the decoder does not
/// read: that transport is left out.
pub(super) fn target(folder: &Folder, wire: Wire) -> Result<Target, String> {
    let (location, way, more) = match wire {
        Wire::Sse => ("sse", "SSE", "Accept: text/event-stream\r\n"),
        Wire::WebSocket => ("websocket", "WebSocket", UPGRADE),
        Wire::Stream => ("stream", "stream", ""),
        Wire::LongPoll | Wire::MqttWebSocket => return Err("nchan is not measured with that".to_owned()),
    };
    install::ensure(&[NGINX, NCHAN])?;
    let program = NGINX.path().ok_or("nginx is not here")?;
    let module = NCHAN.path().ok_or("the module nchan is not here")?;
    let folder = folder.make("nchan")?;
    let file = folder.join("nginx.conf");
    write(&file, &configuration(&folder, &module))?;
    // `nginx -v` writes "nginx version: nginx/1.22.1" on standard error.
    let nginx = install::said(&program, "-v").rsplit('/').next().unwrap_or_default().trim().to_owned();
    let nchan = install::package_version(NCHAN.package);
    let subscribe = move |topic: &str| vec![get(&format!("/{location}?topic={}", in_query(topic)), more)];
    Ok(Target {
        name: format!("nchan {nchan} on nginx {nginx} ({way})"),
        program,
        arguments: ["-e".into(), folder.join("error.log").into(), "-c".into(), file.into()].into(),
        environment: Vec::new(),
        port: PORT,
        subscribe: Subscribe { wire, opening: Box::new(subscribe), again: None },
        publish: Publish::Http {
            port: CONTROL_PORT,
            request: Box::new(|topic, data| post(&format!("/publish?topic={}", in_query(topic)), data)),
        },
        has_topics: true,
        connections_max: connections_max(),
    })
}

fn configuration(folder: &Path, module: &Path) -> String {
    let (descriptors, connections) = (connections_max() + 100, connections_max());
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .into_iter()
        .map(|kind| format!("    {kind}_temp_path {};\n", folder.join(format!("{kind}_temp")).display()))
        .collect();
    format!(
        "load_module {module};
daemon off;
pid {pid};
worker_processes 1;
worker_rlimit_nofile {descriptors};
events {{
    worker_connections {connections};
    multi_accept on;
}}
http {{
    access_log off;
    tcp_nodelay on;
    # The publisher keeps its one connection.
    keepalive_requests 1000000000;
    keepalive_timeout 1d;
    keepalive_time 1d;
    # Events stay for subscribers who are behind: by default a topic keeps 10.
    nchan_message_buffer_length 1000;
    nchan_message_timeout 5m;
    nchan_shared_memory_size 512m;
{temporary}    server {{
        listen 0.0.0.0:{PORT} backlog=65535;
        location = /sse {{
            nchan_subscriber eventsource;
            nchan_channel_id $arg_topic;
        }}
        location = /websocket {{
            nchan_subscriber websocket;
            nchan_channel_id $arg_topic;
        }}
        location = /stream {{
            nchan_subscriber http-raw-stream;
            nchan_subscriber_http_raw_stream_separator \"\\n\";
            nchan_channel_id $arg_topic;
        }}
    }}
    server {{
        listen 127.0.0.1:{CONTROL_PORT};
        location = /publish {{
            nchan_publisher;
            nchan_channel_id $arg_topic;
        }}
    }}
}}
",
        module = module.display(),
        pid = folder.join("nginx.pid").display(),
    )
}
