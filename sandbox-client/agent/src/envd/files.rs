//! `/files` and `filesystem.Filesystem`: what a command could do to files itself, for the caller.
//!
//! Paths are those inside; relative ones start at the home directory.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use http::{HeaderMap, Request, Response, header};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, BodyStream, Either};
use hyper::body::Incoming;
use serde::Serialize;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Body, Outcome, Refusal, json, nothing};
use crate::wire::{EntryInfo, Move, OnPath, timestamp};

const CHUNK: usize = 64 << 10;
/// Entries of one listing.
const ENTRIES: usize = 20_000;

fn resolve(home: &Path, path: &str) -> Outcome<PathBuf> {
    if path.contains('\0') {
        return Err(Refusal::new("invalid_argument", "a path cannot have a NUL"));
    }
    let path = path.strip_prefix("~/").unwrap_or(path);
    Ok(home.join(path))
}

/// The parameter `path` of `/files`.
fn asked_path(home: &Path, request: &Request<Incoming>) -> Outcome<Option<PathBuf>> {
    let query = request.uri().query().unwrap_or_default();
    let value = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(name, _)| *name == "path")
        .map(|(_, value)| value.replace('+', " "));
    let Some(value) = value else {
        return Ok(None);
    };
    let value = percent_encoding::percent_decode_str(&value)
        .decode_utf8()
        .map_err(|_| Refusal::new("invalid_argument", "the path is not UTF-8"))?;
    resolve(home, &value).map(Some)
}

/// `GET /files`.
pub(super) async fn download(home: &Path, request: &Request<Incoming>) -> Outcome<Response<Body>> {
    let path = asked_path(home, request)?
        .ok_or_else(|| Refusal::new("invalid_argument", "a path is needed"))?;
    // A pipe would block whoever opens it.
    let file = fs::File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&path)
        .map_err(|error| named(&path, error))?;
    let found = file.metadata()?;
    if !found.is_file() {
        let why = format!("path '{}' is not a file", path.display());
        return Err(Refusal::new("invalid_argument", why));
    }
    let (mut sender, channel) = Channel::new(4);
    let mut file = File::from_std(file).take(found.len());
    tokio::spawn(async move {
        loop {
            let mut chunk = bytes::BytesMut::with_capacity(CHUNK);
            match file.read_buf(&mut chunk).await {
                Ok(0) => return,
                Ok(_) => {
                    if sender.send_data(chunk.freeze()).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    sender.abort(error);
                    return;
                }
            }
        }
    });
    let mut response = Response::new(Either::Right(channel));
    let headers = response.headers_mut();
    let kind = header::HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CONTENT_LENGTH, found.len().into());
    Ok(response)
}

fn named(path: &Path, error: io::Error) -> Refusal {
    let refusal = Refusal::from(error);
    let message = format!("path '{}': {}", path.display(), refusal.message);
    Refusal { message, ..refusal }
}

/// What was written, as `envd` says it.
#[derive(Debug, Serialize)]
struct Written {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    path: String,
}

/// `POST /files`: one file as it is, or several as a form.
pub(super) async fn upload(home: &Path, request: Request<Incoming>) -> Outcome<Response<Body>> {
    let path = asked_path(home, &request)?;
    let Some(boundary) = boundary(request.headers())? else {
        let path = path.ok_or_else(|| Refusal::new("invalid_argument", "a path is needed"))?;
        let mut file = create(&path).await?;
        let mut body = request.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(io::Error::other)?;
            if let Ok(data) = frame.into_data() {
                file.write_all(&data).await?;
            }
        }
        file.flush().await?;
        return Ok(json(&[written(&path)]));
    };
    let body = futures_body(request.into_body());
    let mut form = multer::Multipart::new(body, boundary);
    let wrong = |error: multer::Error| Refusal::new("invalid_argument", error.to_string());
    let mut all = Vec::new();
    while let Some(mut field) = form.next_field().await.map_err(wrong)? {
        let named = field.file_name().map(|name| resolve(home, name));
        let named = named.transpose()?;
        let path = path
            .clone()
            .or(named)
            .ok_or_else(|| Refusal::new("invalid_argument", "a file has no name"))?;
        let mut file = create(&path).await?;
        while let Some(chunk) = field.chunk().await.map_err(wrong)? {
            file.write_all(&chunk).await?;
        }
        file.flush().await?;
        all.push(written(&path));
    }
    Ok(json(&all))
}

/// The form's boundary, or `None` for a file as it is.
fn boundary(headers: &HeaderMap) -> Outcome<Option<String>> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        let why = "compressed uploads are not taken";
        return Err(Refusal::new("invalid_argument", why));
    }
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("multipart/form-data") {
        return Ok(None);
    }
    multer::parse_boundary(kind)
        .map(Some)
        .map_err(|error| Refusal::new("invalid_argument", error.to_string()))
}

fn futures_body(
    body: Incoming,
) -> impl futures_util::Stream<Item = Result<bytes::Bytes, hyper::Error>> + Send {
    use futures_util::StreamExt;
    BodyStream::new(body).filter_map(|frame| async {
        match frame {
            Ok(frame) => frame.into_data().ok().map(Ok),
            Err(error) => Some(Err(error)),
        }
    })
}

async fn create(path: &Path) -> Outcome<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|error| named(parent, error))?;
    }
    File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .await
        .map_err(|error| named(path, error))
}

fn written(path: &Path) -> Written {
    let name = path.file_name().unwrap_or_default();
    Written {
        name: name.to_string_lossy().into_owned(),
        kind: "file",
        path: path.to_string_lossy().into_owned(),
    }
}

#[derive(Debug, Serialize)]
struct OneEntry {
    entry: EntryInfo,
}

fn entry(path: &Path) -> Outcome<EntryInfo> {
    let found = fs::symlink_metadata(path).map_err(|error| named(path, error))?;
    Ok(describe(path, &found))
}

fn describe(path: &Path, found: &Metadata) -> EntryInfo {
    let kind = found.file_type();
    let (kind, letter) = match () {
        () if kind.is_file() => ("FILE_TYPE_FILE", '-'),
        () if kind.is_dir() => ("FILE_TYPE_DIRECTORY", 'd'),
        () if kind.is_symlink() => ("FILE_TYPE_SYMLINK", 'l'),
        () => ("FILE_TYPE_UNSPECIFIED", '?'),
    };
    let mode = found.permissions().mode() & 0o7777;
    let bits = "rwxrwxrwx".chars().enumerate();
    let bits = bits.map(|(n, bit)| if mode & (0o400 >> n) == 0 { '-' } else { bit });
    let target = fs::read_link(path).ok();
    let name = path.file_name().unwrap_or_default();
    EntryInfo {
        name: name.to_string_lossy().into_owned(),
        kind: kind.to_owned(),
        path: path.to_string_lossy().into_owned(),
        size: found.len().to_string(),
        mode,
        permissions: std::iter::once(letter).chain(bits).collect(),
        owner: owner(found.uid()),
        group: owner(found.gid()),
        modified_time: timestamp(found.mtime()),
        symlink_target: target.map(|target| target.to_string_lossy().into_owned()),
    }
}

fn owner(id: u32) -> String {
    match id {
        crate::spec::USER => "user".to_owned(),
        other => other.to_string(),
    }
}

/// `Stat`.
pub(super) fn stat(home: &Path, asked: &OnPath) -> Outcome<Response<Body>> {
    let entry = entry(&resolve(home, &asked.path)?)?;
    Ok(json(&OneEntry { entry }))
}

#[derive(Debug, Default, Serialize)]
struct Entries {
    entries: Vec<EntryInfo>,
}

/// `ListDir`: breadth first, following no link.
pub(super) fn list(home: &Path, asked: &OnPath) -> Outcome<Response<Body>> {
    let top = resolve(home, &asked.path)?;
    let depth = asked.depth.unwrap_or(1).max(1);
    let mut found = Entries::default();
    let mut level = vec![top.clone()];
    for at in 0..depth {
        let mut next = Vec::new();
        for directory in level {
            let listed = match fs::read_dir(&directory) {
                Ok(listed) => listed,
                Err(error) if at == 0 => return Err(named(&top, error)),
                Err(_) => continue,
            };
            for listed in listed.flatten() {
                let (path, Ok(about)) = (listed.path(), listed.metadata()) else {
                    continue;
                };
                if found.entries.len() == ENTRIES {
                    let why = format!("more than {ENTRIES} entries");
                    return Err(Refusal::new("resource_exhausted", why));
                }
                found.entries.push(describe(&path, &about));
                if about.is_dir() {
                    next.push(path);
                }
            }
        }
        level = next;
    }
    found.entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(json(&found))
}

/// `MakeDir`.
pub(super) fn make_directory(home: &Path, asked: &OnPath) -> Outcome<Response<Body>> {
    let path = resolve(home, &asked.path)?;
    if path.is_dir() {
        let why = format!("directory already exists: {}", path.display());
        return Err(Refusal::new("already_exists", why));
    }
    fs::create_dir_all(&path).map_err(|error| named(&path, error))?;
    let entry = entry(&path)?;
    Ok(json(&OneEntry { entry }))
}

/// `Move`.
pub(super) fn rename(home: &Path, asked: &Move) -> Outcome<Response<Body>> {
    let (from, to) = (
        resolve(home, &asked.source)?,
        resolve(home, &asked.destination)?,
    );
    fs::rename(&from, &to).map_err(|error| named(&from, error))?;
    let entry = entry(&to)?;
    Ok(json(&OneEntry { entry }))
}

/// `Remove`: nothing there is fine.
pub(super) fn remove(home: &Path, asked: &OnPath) -> Outcome<Response<Body>> {
    let path = resolve(home, &asked.path)?;
    let removed = match fs::symlink_metadata(&path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(&path),
        Ok(_) => fs::remove_file(&path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.map_err(|error| named(&path, error))?;
    Ok(nothing())
}
