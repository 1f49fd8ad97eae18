//! Mosquitto, an MQTT broker, with its WebSocket listener.

use super::install::{self, MOSQUITTO};
use super::{CONTROL_PORT, Folder, PORT, UPGRADE, connections_max, get, write};
use crate::publisher::{mqtt_connect, mqtt_subscribe};
use crate::target::{Publish, Subscribe, Target, Wire};
use crate::wire::binary;

pub(super) fn target(folder: &Folder) -> Result<Target, String> {
    install::ensure(&[MOSQUITTO])?;
    let program = MOSQUITTO.path().ok_or("mosquitto is not here")?;
    let file = folder.make("mosquitto")?.join("mosquitto.conf");
    write(&file, &configuration())?;
    // The first line of its help is "mosquitto version 2.0.11".
    let help = install::said(&program, "-h");
    let version = help.lines().next().and_then(|line| line.split(' ').nth(2)).unwrap_or_default().to_owned();
    let opening = |topic: &str| {
        let upgrade = get("/mqtt", &format!("{UPGRADE}Sec-WebSocket-Protocol: mqtt\r\n"));
        // Without a name of its own a client is given one (MQTT 3.1.1, section 3.1.3.1).
        vec![upgrade, binary(&mqtt_connect("")), binary(&mqtt_subscribe(topic))]
    };
    Ok(Target {
        name: format!("Mosquitto {version} (MQTT over WebSocket)"),
        program,
        arguments: ["-c".into(), file.into()].into(),
        environment: Vec::new(),
        port: PORT,
        subscribe: Subscribe { wire: Wire::MqttWebSocket, opening: Box::new(opening), again: None },
        publish: Publish::Mqtt { port: CONTROL_PORT },
        has_topics: true,
        connections_max: connections_max(),
    })
}

fn configuration() -> String {
    // Started by root it takes another user's rights, who may not read what is below root's folders.
    format!(
        "user root
allow_anonymous true
persistence false
log_type none
log_dest none
sys_interval 0
set_tcp_nodelay true
max_queued_messages 0
listener {CONTROL_PORT} 127.0.0.1
listener {PORT} 0.0.0.0
protocol websockets
max_connections -1
"
    )
}
