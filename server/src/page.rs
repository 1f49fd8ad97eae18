//! The live page and its assets, built into the binary.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use stentor::{Request, Response};

/// What the live page may load and do: nothing but its own files, streams from here, and frames from here.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; frame-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

struct Asset {
    path: &'static str,
    content_type: &'static str,
    body: &'static str,
}

const ASSETS: [Asset; 4] = [
    Asset { path: "/", content_type: "text/html; charset=utf-8", body: include_str!("../page/index.html") },
    Asset {
        path: "/transports.js",
        content_type: "text/javascript; charset=utf-8",
        body: include_str!("../page/transports.js"),
    },
    Asset {
        path: "/app.js",
        content_type: "text/javascript; charset=utf-8",
        body: include_str!("../page/app.js"),
    },
    Asset {
        path: "/style.css",
        content_type: "text/css; charset=utf-8",
        body: include_str!("../page/style.css"),
    },
];

/// Whether `path` is the page or one of its assets.
pub(crate) fn has(path: &str) -> bool {
    ASSETS.iter().any(|asset| asset.path == path)
}

/// Answers with the page or the asset at the path of `request`: 304 if the browser has it already (RFC 9110
/// §13.1.2).
pub(crate) fn answer(request: &Request<'_>) -> Option<Response> {
    let asset = ASSETS.iter().find(|asset| asset.path == request.path)?;
    let tag = entity_tag(asset.body);
    let is_held = request.header("if-none-match").is_some_and(|held| names(held, &tag));
    let response = if is_held {
        Response::ok(asset.content_type, "").status(304)
    } else {
        Response::ok(asset.content_type, asset.body)
    };
    Some(
        response
            .header("ETag", &tag)
            // Kept, but asked for again each time: a new binary has a new page at once.
            .header("Cache-Control", "no-cache")
            .header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
            .header("X-Content-Type-Options", "nosniff")
            .header("Referrer-Policy", "no-referrer"),
    )
}

/// Changes with the body; the same in every process of this binary.
fn entity_tag(body: &str) -> String {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

/// Whether the list of an `If-None-Match` names `tag`, compared weakly.
fn names(list: &str, tag: &str) -> bool {
    list.split(',').map(str::trim).any(|held| held == "*" || held.strip_prefix("W/").unwrap_or(held) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str, headers: &[(String, String)]) -> Option<Response> {
        answer(&Request {
            method: "GET",
            path,
            query: &[],
            headers,
            peer: ([127, 0, 0, 1], 1).into(),
            matchers: &[],
            transport: None,
            body: &[],
        })
    }

    fn field<'a>(response: &'a Response, name: &str) -> &'a str {
        &response.headers.iter().find(|(n, _)| n == name).expect(name).1
    }

    #[test]
    fn each_asset_has_its_type_and_a_tag_that_brings_a_304() {
        for (path, content_type) in [
            ("/", "text/html"),
            ("/app.js", "text/javascript"),
            ("/transports.js", "text/javascript"),
            ("/style.css", "text/css"),
        ] {
            assert!(has(path));
            let response = get(path, &[]).unwrap();
            assert_eq!(response.status, 200);
            assert!(field(&response, "Content-Type").starts_with(content_type));
            assert!(!response.body.is_empty());
            let tag = field(&response, "ETag").to_owned();
            for held in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".into()] {
                let again = get(path, &[("If-None-Match".into(), held.clone())]).unwrap();
                assert_eq!((again.status, again.body.len()), (304, 0), "{held}");
                assert_eq!(field(&again, "ETag"), tag);
            }
            let other = get(path, &[("if-none-match".into(), "\"other\"".into())]).unwrap();
            assert_eq!(other.status, 200);
        }
        assert!(get("/app.css", &[]).is_none() && !has("/index.html"));
    }

    #[test]
    fn the_page_keeps_to_its_own_policy() {
        let html = ASSETS[0].body;
        for forbidden in ["<style", "style=\"", "onclick=", "onload=", "https://", "javascript:"] {
            assert!(!html.contains(forbidden), "the page has {forbidden}, which its policy forbids");
        }
        let mut scripts = html.match_indices("<script").map(|(at, _)| &html[at..]);
        assert!(
            scripts.all(|script| script[..script.find('>').unwrap_or(0)].contains("src=")),
            "script in the page"
        );
        // Whatever the page and its scripts load by name is there.
        let sources = ASSETS.iter().flat_map(|asset| asset.body.split(['"', '\'']));
        let loaded: Vec<&str> = sources
            .filter(|text| {
                !text.contains([' ', '\n', '(']) && (text.ends_with(".js") || text.ends_with(".css"))
            })
            .collect();
        assert!(loaded.len() >= 3, "{loaded:?}");
        for path in loaded {
            assert!(has(&format!("/{}", path.trim_start_matches("./").trim_start_matches('/'))), "{path}");
        }
    }
}
