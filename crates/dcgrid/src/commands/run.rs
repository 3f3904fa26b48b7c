//! `dcgrid run`: submit, wait and fetch in one. A command after `--` is a job of one subjob.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use link::UserLink;
use model::JobState;
use protocol::spec::SpecErrors;

use crate::args::{LoginArgs, RunArgs};
use crate::commands::get::{default_directory, fetch};
use crate::commands::submit::{SpecText, prepare};
use crate::commands::wait::{Ended, wait};
use crate::exit::{Exit, fault};
use crate::output;
use crate::settings::connect;

pub async fn run(args: RunArgs, login: &LoginArgs, json: bool) -> anyhow::Result<Exit> {
    let mut link = connect(login)?;
    let is_command = args.spec.is_none();
    let spec = match &args.spec {
        Some(path) => SpecText::read(path)?,
        None => command_spec(&args)?,
    };
    let ready = prepare(spec).map_err(|error| without_places(error, is_command))?;
    let reply = ready.submit(&mut link, json || is_command).await?;
    let ended = wait(&mut link, reply.job, None, json || is_command).await?;
    if is_command {
        // Without outputs the result is what was printed, unless a place for it was named.
        let dest = args.dest.as_deref().or((!args.outputs.is_empty()).then_some(Path::new(".")));
        return finish_command(&mut link, &ended, dest, json).await;
    }
    let exit = ended.report(&mut link, json).await?;
    let dest = args.dest.unwrap_or_else(|| default_directory(&ended.view));
    let files = fetch(&mut link, reply.job, &dest).await?;
    if !json {
        output::line(&format!("{} files in {}", files.len(), dest.display()));
    }
    Ok(exit)
}

/// A command as the spec of a job of one, with nothing in it read as a placeholder.
fn command_spec(args: &RunArgs) -> anyhow::Result<SpecText> {
    let literal = |text: &String| text.replace('{', "{{").replace('}', "}}");
    let mut inputs = serde_json::Map::new();
    for (number, path) in args.inputs.iter().enumerate() {
        let path = path.to_str().ok_or_else(|| {
            fault(Exit::Usage, format!("the input '{}' is not UTF-8", path.display()), "rename it")
        })?;
        inputs.insert(format!("input{number}"), path.into());
    }
    let name =
        Path::new(&args.command[0]).file_name().map_or("command".into(), |name| name.to_string_lossy());
    let mut spec = serde_json::json!({
        "spec": 1,
        "name": name,
        "command": args.command.iter().map(literal).collect::<Vec<_>>(),
        "app": { "program": args.command[0], "include": args.include },
        "inputs": inputs,
        "outputs": args.outputs.iter().map(literal).collect::<Vec<_>>(),
    });
    if !args.allow.is_empty() {
        spec["network"] = serde_json::json!({ "allow": args.allow });
    }
    if args.gui {
        spec["app"]["gui"] = true.into();
    }
    if args.jit {
        spec["app"]["jit"] = true.into();
    }
    if args.sealed {
        spec["sealed"] = true.into();
    }
    if !args.outputs.is_empty() {
        let keep: Vec<serde_json::Value> = args
            .outputs
            .iter()
            .map(|path| serde_json::json!({ "how": "files", "from": literal(path), "to": literal(path) }))
            .collect();
        spec["aggregate"] = keep.into();
    }
    let base = std::env::current_dir().context("can't tell the current directory")?;
    Ok(SpecText { text: spec.to_string(), is_json: true, name: "the command".to_owned(), base })
}

/// Places in a spec that nobody wrote would only confuse.
fn without_places(error: anyhow::Error, is_command: bool) -> anyhow::Error {
    match error.downcast::<SpecErrors>() {
        Ok(errors) if is_command => {
            let messages: Vec<String> = errors.0.iter().map(|error| error.message.clone()).collect();
            fault(Exit::Usage, messages.join("; "), "")
        }
        Ok(errors) => errors.into(),
        Err(other) => other,
    }
}

/// Prints what the command printed, fetches what it wrote, and ends as it ended.
async fn finish_command(
    link: &mut UserLink,
    ended: &Ended,
    dest: Option<&Path>,
    json: bool,
) -> anyhow::Result<Exit> {
    let job = ended.view.job;
    if json {
        output::json(&ended.view);
    } else {
        for (stream, is_error) in [("stdout", false), ("stderr", true)] {
            copy_stream(link, &format!("/v1/jobs/{job}/subjobs/0/files/{stream}"), is_error).await?;
        }
    }
    if ended.view.state == JobState::Succeeded {
        if let Some(dest) = dest {
            fetch(link, job, dest).await?;
        }
    } else {
        output::note(&format!("job {job} {}", ended.view.state));
        ended.report_failures(link).await?;
    }
    Ok(ended.exit())
}

/// Copies a subjob's stream to ours. A subjob that never ended has none.
async fn copy_stream(link: &mut UserLink, path: &str, is_error: bool) -> anyhow::Result<()> {
    let mut offset = 0;
    loop {
        let part = match link.get_range(path, offset, protocol::api::MAX_PART as u64).await {
            Ok(part) => part,
            Err(error) if error.code() == Some(protocol::api::ProblemCode::NotFound) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if part.is_empty() {
            return Ok(());
        }
        offset += part.len() as u64;
        let written =
            if is_error { std::io::stderr().write_all(&part) } else { std::io::stdout().write_all(&part) };
        // A reader that has gone away has had enough.
        if written.is_err() || part.len() < protocol::api::MAX_PART {
            return Ok(());
        }
    }
}
