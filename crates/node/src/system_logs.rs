//! The machine's own logs over the kubelet API: the files below `/var/log`, and what is in its directories.

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use std::io::{Error, ErrorKind};
use std::path::{Path as FilePath, PathBuf};
use tokio::fs::{self, File};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

/// Where machines have them.
const ROOT: &str = "/var/log";

/// The routes, for whoever passed the gate.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    below(FilePath::new(ROOT))
}

fn below<S: Clone + Send + Sync + 'static>(root: &FilePath) -> Router<S> {
    let (top, root) = (root.to_owned(), root.to_owned());
    Router::new()
        .route("/logs/", get(async move || show(&top, "").await))
        .route(
            "/logs/{*path}",
            get(async move |Path(path): Path<String>| show(&root, &path).await),
        )
}

async fn show(root: &FilePath, path: &str) -> Response {
    match read(root, path).await {
        Ok(response) => response,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => StatusCode::FORBIDDEN.into_response(),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn read(root: &FilePath, path: &str) -> Result<Response, Error> {
    let file = inside(root, path).await?;
    let metadata = fs::metadata(&file).await?;
    if metadata.is_dir() {
        if !path.is_empty() && !path.ends_with('/') {
            // What the directory has is named relative to it.
            let name = path.rsplit('/').next().unwrap_or_default();
            let to = [(header::LOCATION, format!("{name}/"))];
            return Ok((StatusCode::MOVED_PERMANENTLY, to).into_response());
        }
        return Ok(Html(list(&file).await?).into_response());
    }
    if !metadata.is_file() {
        // A pipe may have nothing to say for ever.
        return Err(ErrorKind::NotFound.into());
    }
    // A log that grows meanwhile ends where it did when it was asked for.
    let bytes = File::open(&file).await?.take(metadata.len());
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((kind, Body::from_stream(ReaderStream::new(bytes))).into_response())
}

/// The file that a path names, links followed; nothing outside of `root` is there.
async fn inside(root: &FilePath, path: &str) -> Result<PathBuf, Error> {
    let root = fs::canonicalize(root).await?;
    let file = fs::canonicalize(root.join(path.trim_start_matches('/'))).await?;
    match file.starts_with(&root) {
        true => Ok(file),
        false => Err(ErrorKind::NotFound.into()),
    }
}

async fn list(directory: &FilePath) -> Result<String, Error> {
    let mut names = Vec::new();
    let mut entries = fs::read_dir(directory).await?;
    while let Some(entry) = entries.next_entry().await? {
        let slash = if entry.file_type().await?.is_dir() { "/" } else { "" };
        names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
    }
    names.sort();
    let lines = names.iter().map(|name| {
        let text = escaped(name);
        format!("<a href=\"./{}\">{text}</a>\n", as_url(name))
    });
    Ok(format!("<!doctype html>\n<pre>\n{}</pre>\n", lines.collect::<String>()))
}

/// A name as text of a page.
fn escaped(name: &str) -> String {
    let name = name.replace('&', "&amp;").replace('<', "&lt;");
    name.replace('>', "&gt;").replace('"', "&#34;")
}

/// A name as a part of an address.
fn as_url(name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte);
    let letters = name.bytes().map(|byte| match is_plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    async fn check(root: &FilePath, path: &str, code: u16, expected: &str) {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let response = below(root).oneshot(request).await.unwrap();
        assert_eq!(response.status(), code, "{path}");
        let location = response.headers().get(header::LOCATION).cloned();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let location = location.map(|to| to.to_str().unwrap().to_owned());
        assert_eq!(location.unwrap_or(text), expected, "{path}");
    }

    #[tokio::test]
    async fn logs_of_the_machine_are_shown_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("log");
        std::fs::create_dir_all(root.join("apt")).unwrap();
        std::fs::write(root.join("sys<log"), "booted\n").unwrap();
        std::fs::write(root.join("apt/history"), "upgraded\n").unwrap();
        std::fs::write(directory.path().join("secret"), "key\n").unwrap();
        std::os::unix::fs::symlink("../secret", root.join("link")).unwrap();
        std::os::unix::fs::symlink("apt/history", root.join("latest")).unwrap();
        let page = "<!doctype html>\n<pre>\n<a href=\"./apt/\">apt/</a>\n<a href=\"./latest\">latest</a>\n\
            <a href=\"./link\">link</a>\n<a href=\"./sys%3Clog\">sys&lt;log</a>\n</pre>\n";
        check(&root, "/logs/", 200, page).await;
        check(&root, "/logs/sys%3Clog", 200, "booted\n").await;
        check(&root, "/logs/apt", 301, "apt/").await;
        check(&root, "/logs/apt/history", 200, "upgraded\n").await;
        check(&root, "/logs/latest", 200, "upgraded\n").await;
        for outside in [
            "link",
            "../secret",
            "..%2Fsecret",
            "apt/../../secret",
            "%2Fetc/passwd",
            "none",
        ] {
            check(&root, &format!("/logs/{outside}"), 404, "404 page not found\n").await;
        }
    }
}
