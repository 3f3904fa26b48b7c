//! `dcgrid get`: a job's result, or what one subjob left, into a directory. Files that are there already are not fetched again.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use link::UserLink;
use model::{ByteSize, JobId, SubjobId};
use protocol::api::{JobView, ResultFile, ResultList};
use protocol::spec::check_path;

use crate::args::{GetArgs, LoginArgs, Selector};
use crate::commands::jobs::subjob_view;
use crate::exit::{Exit, fault};
use crate::output;
use crate::settings::connect;

pub async fn run(args: GetArgs, login: &LoginArgs, json: bool) -> anyhow::Result<Exit> {
    let mut link = connect(login)?;
    let (files, dest) = match args.which {
        Selector::Job(job) => get_result(&mut link, job, args.dest).await?,
        Selector::Subjob(subjob) => get_subjob(&mut link, subjob, args.dest).await?,
    };
    if json {
        output::json(&files);
    } else {
        let size: u64 = files.iter().map(|file| file.size).sum();
        output::line(&format!("{} files, {} in {}", files.len(), ByteSize(size), dest.display()));
    }
    Ok(Exit::Success)
}

async fn get_result(
    link: &mut UserLink,
    job: JobId,
    dest: Option<PathBuf>,
) -> anyhow::Result<(Vec<ResultFile>, PathBuf)> {
    let view: JobView = link.get(&format!("/v1/jobs/{job}")).await?;
    if !view.state.is_final() {
        let message = format!("job {job} is {}: there is no result yet", view.state);
        return Err(fault(Exit::Failed, message, format!("`dcgrid show {job}` tells how far it is")));
    }
    let dest = dest.unwrap_or_else(|| default_directory(&view));
    Ok((fetch(link, job, &dest).await?, dest))
}

/// What the last attempt of a subjob left: its outputs, its streams, and pictures of its dialogs.
async fn get_subjob(
    link: &mut UserLink,
    id: SubjobId,
    dest: Option<PathBuf>,
) -> anyhow::Result<(Vec<ResultFile>, PathBuf)> {
    let files = subjob_view(link, id).await?.attempts.pop().map_or_else(Vec::new, |last| last.files);
    let dest = dest.unwrap_or_else(|| PathBuf::from(id.to_string()));
    for file in &files {
        fetch_file(link, &format!("/v1/jobs/{}/subjobs/{}/files", id.job, id.index), file, &dest).await?;
    }
    Ok((files, dest))
}

/// The job's name and number, as a directory here.
pub fn default_directory(view: &JobView) -> PathBuf {
    let safe = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let name: String = view.name.chars().map(safe).collect();
    PathBuf::from(format!("{}-{}", name.trim_start_matches('.'), view.job))
}

/// Fetches all files of a result below `dest`.
pub async fn fetch(link: &mut UserLink, job: JobId, dest: &Path) -> anyhow::Result<Vec<ResultFile>> {
    let list: ResultList = link.get(&format!("/v1/jobs/{job}/result")).await?;
    for file in &list.files {
        fetch_file(link, &format!("/v1/jobs/{job}/result"), file, dest).await?;
    }
    Ok(list.files)
}

/// Fetches one file, which is below `place` on the server.
async fn fetch_file(link: &mut UserLink, place: &str, file: &ResultFile, dest: &Path) -> anyhow::Result<()> {
    // The server checked it; a result must not write outside of `dest` even if the server is not honest.
    check_path(&file.path).map_err(|why| {
        fault(Exit::Refused, format!("the result names a bad path '{}': {why}", file.path), "")
    })?;
    let target = dest.join(&file.path);
    let context = || format!("can't write '{}'", target.display());
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent).with_context(context)?;
    }
    if is_there(&target, file) {
        return Ok(());
    }
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let partial = target.with_file_name(name);
    let mut into = std::fs::File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&partial)
        .with_context(context)?;
    let path = format!("{place}/{}", encode(&file.path));
    let fetched = link.download(&path, &file.hash, file.size, &mut into, &partial, |_| {}).await;
    fetched.with_context(|| format!("fetching '{}'", file.path))?;
    std::fs::rename(&partial, &target).with_context(context)
}

/// Whether a file has been fetched before, whole.
fn is_there(target: &Path, file: &ResultFile) -> bool {
    let Ok(mut found) = std::fs::File::open(target) else { return false };
    if !found.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == file.size) {
        return false;
    }
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut found, &mut hasher).is_ok() && hasher.finalize().as_bytes() == &file.hash.0
}

/// A path as it is written in a URL (RFC 3986).
pub fn encode(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    path.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_encoded_for_a_url() {
        assert_eq!(encode("a b/ü?.tbl"), "a%20b/%C3%BC%3F.tbl");
    }
}
