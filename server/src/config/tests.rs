use super::*;

/// Loads a file's text, variables and flags, and shows a fault as a user would see it.
fn load_all(
    file: Option<&str>,
    variables: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Settings, String> {
    let path = file.map(|text| {
        let name = format!("stentor-config-{}-{:?}.toml", std::process::id(), std::thread::current().id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        path
    });
    let variables: HashMap<_, _> =
        variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let flags: Vec<Flag> = flags
        .iter()
        .map(|(key, value)| Flag {
            flag: format!("--{}", key.replace('_', "-")),
            key: (*key).into(),
            value: (*value).into(),
        })
        .collect();
    let settings = load(path.as_deref(), |name| variables.get(name).cloned(), &flags).map_err(|e| {
        let text = e.to_string();
        match &path {
            Some(path) => text.replace(&format!("{path:?}"), "FILE"),
            None => text,
        }
    });
    if let Some(path) = path {
        let _ = std::fs::remove_file(path);
    }
    settings
}

fn fault_of_file(text: &str) -> String {
    load_all(Some(text), &[], &[]).expect_err("the file is refused")
}

#[test]
fn nothing_said_is_loopback_with_open_publish() {
    let settings = load_all(None, &[], &[]).unwrap();
    assert_eq!(settings.engine.listen, [LISTEN.parse().unwrap()]);
    assert!(settings.is_publish_open());
    assert_eq!(settings.server, Server::default());
    let mut rest = settings.engine;
    rest.listen.clear();
    assert_eq!(rest, stentor::Config::default());
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let file = Some(
        "shards = 2\ndrain_seconds = 2\nlog_level = \"warn\"\n[limits]\nmatchers = 2\nhead_bytes = 2048",
    );
    let variables =
        [("STENTOR_SHARDS", "3"), ("STENTOR_DRAIN_SECONDS", "3"), ("STENTOR_LIMITS_MATCHERS", "3")];
    let settings = load_all(file, &variables, &[("shards", "4"), ("limits.matchers", "4")]).unwrap();
    assert_eq!(settings.engine.shards, 4);
    assert_eq!(settings.engine.limits.matchers, 4);
    assert_eq!(settings.server.drain_seconds, 3);
    assert_eq!(settings.server.log_level, "warn");
    assert_eq!(settings.engine.limits.head_bytes, 2048);
    assert_eq!(settings.engine.limits.batch_lines, 1_000);
}

#[test]
fn the_environment_sets_every_kind_of_value() {
    let variables = [
        ("STENTOR_LISTEN", "127.0.0.1:1, [::1]:2"),
        ("STENTOR_CORS_ORIGINS", "https://a.example,https://b.example"),
        ("STENTOR_CORS_CREDENTIALS", "1"),
        ("STENTOR_PAGE", "off"),
        ("STENTOR_SLOW_POLICY", "latest"),
        ("STENTOR_PUBLISH_TOKEN_FILE", "tokens"),
        ("STENTOR_RETENTION_ALL_BYTES", "512_000_000"),
        ("STENTOR_WEBSOCKET_HEARTBEAT_TEXT", ""),
        ("STENTOR_LOG_FORMAT", "json"),
    ];
    let Settings { engine, server } = load_all(None, &variables, &[]).unwrap();
    assert_eq!(engine.listen, ["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()]);
    assert_eq!(engine.cors.origins, ["https://a.example", "https://b.example"]);
    assert!(engine.cors.credentials);
    assert_eq!(engine.slow_policy, stentor::config::SlowPolicy::Latest);
    assert_eq!(engine.retention.all_bytes, 512_000_000);
    assert_eq!(engine.websocket.heartbeat_text, "");
    assert!(!server.page);
    assert_eq!(server.publish_token_file, Some("tokens".into()));
    assert_eq!(server.log_format, LogFormat::Json);
}

#[test]
fn a_fault_names_its_key_and_who_set_it() {
    for (file, expected) in [
        ("shards = 129", "config: shards: is 129, over the most, 128 (set by FILE)"),
        ("shards = \"two\"", "config: shards: is \"two\", a string, not a whole number (set by FILE)"),
        ("shards = -1", "config: shards: is -1: invalid value: integer `-1`, expected usize (set by FILE)"),
        (
            "[limits]\nconections = 1",
            "config: limits.conections: is no key of the configuration; did you mean limits.connections? \
             (set by FILE)",
        ),
        ("[colours]\nred = 1", "config: colours.red: is no key of the configuration (set by FILE)"),
        ("limits = 3", "config: limits: is no key of the configuration (set by FILE)"),
        ("[limits]\nmatchers = 0", "config: limits.matchers: is 0, below the least, 1 (set by FILE)"),
        ("path = \"events\"", "config: path: \"events\" does not begin with `/` (set by FILE)"),
        (
            "[cors]\norigins = [\"*\"]\ncredentials = true",
            "config: cors.credentials: cannot be true with the origin `*`: name the origins that may send \
             cookies (set by FILE)",
        ),
        ("drain_seconds = 0", "config: drain_seconds: is 0; 1 to 3600 are allowed (set by FILE)"),
        ("listen = []", "config: listen: is empty; a server listens somewhere (set by FILE)"),
    ] {
        assert_eq!(fault_of_file(file), expected);
    }
    for (key, value, expected) in [
        ("limits.half_sent_percent", "300", "config: limits.half_sent_percent: is 300: "),
        ("listen", "here", "config: listen: is [\"here\"]: invalid socket address syntax (set by --listen)"),
        ("slow_policy", "wait", "config: slow_policy: is \"wait\": unknown variant `wait`, expected "),
        ("log_level", "loud=", "config: log_level: is \"loud=\": \"\" is no level; "),
        ("log_format", "xml", "config: log_format: is \"xml\": unknown variant `xml`, expected "),
        ("page", "maybe", "config: page: is \"maybe\", a string, not true or false (set by --page)"),
    ] {
        let fault = load_all(None, &[], &[(key, value)]).unwrap_err();
        assert!(fault.starts_with(expected), "{fault}");
    }
    let fault = load_all(None, &[("STENTOR_SHARDS", "many")], &[]).unwrap_err();
    assert_eq!(fault, "config: shards: is \"many\", a string, not a whole number (set by STENTOR_SHARDS)");
}

#[test]
fn a_file_that_is_not_there_or_no_toml_is_named() {
    let fault = load(Some(Path::new("/nowhere/stentor.toml")), |_| None, &[]).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "config: \"/nowhere/stentor.toml\": cannot read: no such file or directory"
    );
    let fault = fault_of_file("shards = 1\n\n[limits\n");
    assert!(fault.starts_with("config: FILE, line 3: "), "{fault}");
}

#[test]
fn beyond_loopback_it_must_be_said_who_may_publish() {
    for address in ["0.0.0.0:80", "[::]:80", "192.0.2.1:80", "127.0.0.1:80,192.0.2.1:80"] {
        let fault = load_all(None, &[], &[("listen", address)]).unwrap_err();
        assert!(fault.contains("--publish-token-file") && fault.contains("--open-publish"), "{fault}");
    }
    let open = load_all(None, &[], &[("listen", "0.0.0.0:80"), ("open_publish", "true")]).unwrap();
    assert!(open.is_publish_open());
    let tokens = load_all(None, &[], &[("listen", "0.0.0.0:80"), ("publish_token_file", "t")]).unwrap();
    assert!(!tokens.is_publish_open());
    for address in ["127.0.0.2:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
        assert!(load_all(None, &[], &[("listen", address)]).unwrap().is_publish_open(), "{address}");
    }
    // A token file closes publishing on loopback too.
    assert!(!load_all(None, &[], &[("publish_token_file", "t")]).unwrap().is_publish_open());
    let fault = load_all(None, &[], &[("publish_token_file", "t"), ("open_publish", "true")]).unwrap_err();
    assert!(fault.starts_with("config: open_publish: "), "{fault}");
}

#[test]
fn the_printed_configuration_gives_the_same_again() {
    let flags = [
        ("listen", "127.0.0.1:1,127.0.0.1:2"),
        ("cors.origins", "https://a.example"),
        ("publish_token_file", "a \"quoted\" name"),
        ("limits.matchers", "7"),
        ("slow_policy", "close"),
    ];
    let settings = load_all(None, &[], &flags).unwrap();
    let text = print(&settings);
    assert_eq!(load_all(Some(&text), &[], &[]), Ok(settings));
    let defaults = load_all(None, &[], &[]).unwrap();
    assert_eq!(load_all(Some(&print(&defaults)), &[], &[]), Ok(defaults));
    assert!(text.lines().all(|line| line.len() <= 110), "{text}");
}

#[test]
fn every_key_that_there_is_has_a_meaning() {
    let mut table = Layers::defaults().table;
    table.insert("publish_token_file".into(), Value::String(String::new()));
    let mut names: Vec<_> = leaves(table).into_iter().map(|(key, _)| key).collect();
    let mut known: Vec<_> = KEYS.iter().map(|key| key.name.to_owned()).collect();
    names.sort();
    known.sort();
    assert_eq!(names, known);
}

#[test]
fn every_key_stands_in_the_documentation_with_its_default() {
    let documentation = include_str!("../../../docs/configuration.md");
    let defaults = Layers::defaults();
    for key in KEYS {
        let default = defaults.current(key.name).map_or("none".into(), |value| format!("`{value}`"));
        let row = format!("| `{}` | {default} |", key.name);
        assert!(documentation.contains(&row), "docs/configuration.md has no row {row}");
    }
}
