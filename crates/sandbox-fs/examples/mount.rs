//! Mounts sealed files at a directory, for whoever wants to try a file-system suite on them:
//!
//! ```text
//! mount STORE DIRECTORY [--key-file FILE] [--root ROOT] [--quota BYTES] [--read-rate BYTES] [--write-rate BYTES]
//!       [--writes back|through] [--xattrs served|refused] [--threads NUMBER] [--counts]
//! ```
//! STORE is an empty directory, or one that was used before: then the key and the root say which of its states is
//! meant. Serves until it is unmounted, or gets SIGINT or SIGTERM. Then it writes a checkpoint and prints its root.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{CWD, Mode, OFlags, openat};
use sandbox_fs::fuse::{self, MountOptions, Opcode, Session, SessionOptions, Tuning, Writes, Xattrs};
use sandbox_fs::seal::{StoreKey, Suite};
use sandbox_fs::store::{Root, Store};
use sandbox_fs::{Files, FilesOptions, Quota, Rate};
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

struct Arguments {
    store: PathBuf,
    directory: PathBuf,
    key_file: Option<PathBuf>,
    root: Option<Root>,
    quota: u64,
    rate: Rate,
    session: SessionOptions,
    /// Whether to tell in the end how many requests of each kind there were.
    counts: bool,
}

fn main() -> Result<()> {
    let arguments = parse(std::env::args().skip(1))?;
    let files = Arc::new(open_files(&arguments)?);
    let session = serve(&arguments, Arc::clone(&files))?;
    let counts = wait_for_end(&arguments.directory, session)?;
    if arguments.counts {
        for (opcode, count) in counts {
            eprintln!("{opcode:?} {count}");
        }
    }
    if let Some(trouble) = files.trouble() {
        bail!("{trouble:?}");
    }
    let root = files.checkpoint().context("the checkpoint")?;
    println!("{}", hex(root.as_bytes()));
    Ok(())
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Arguments> {
    let mut places = Vec::new();
    let mut parsed = Arguments {
        store: PathBuf::new(),
        directory: PathBuf::new(),
        key_file: None,
        root: None,
        quota: 1 << 40,
        rate: Rate::default(),
        session: SessionOptions::default(),
        counts: false,
    };
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--key-file" => parsed.key_file = Some(value()?.into()),
            "--root" => parsed.root = Some(Root::from_bytes(unhex(&value()?).context("--root")?)),
            "--quota" => parsed.quota = number(&value()?)?,
            "--read-rate" => parsed.rate.read = Some(number(&value()?)?),
            "--write-rate" => parsed.rate.write = Some(number(&value()?)?),
            "--threads" => parsed.session.threads = number(&value()?)?,
            "--writes" => {
                let choices = [("back", Writes::Back), ("through", Writes::Through)];
                parsed.session.writes = one_of(&value()?, choices)?;
            }
            "--xattrs" => {
                let choices = [("served", Xattrs::Served), ("refused", Xattrs::Refused)];
                parsed.session.xattrs = one_of(&value()?, choices)?;
            }
            "--counts" => parsed.counts = true,
            option if option.starts_with("--") => bail!("there is no option {option}"),
            place => places.push(PathBuf::from(place)),
        }
    }
    let [store, directory] =
        <[PathBuf; 2]>::try_from(places).map_err(|_| anyhow!("mount STORE DIRECTORY [OPTIONS]"))?;
    Ok(Arguments { store, directory, ..parsed })
}

fn number<T: FromStr<Err = std::num::ParseIntError>>(text: &str) -> Result<T> {
    text.parse().with_context(|| format!("{text:?} is not a number that can be meant"))
}

fn one_of<T: Copy>(text: &str, choices: [(&str, T); 2]) -> Result<T> {
    let choice = choices.iter().find(|(name, _)| *name == text);
    choice.map(|(_, choice)| *choice).with_context(|| format!("{text:?} is none of the choices"))
}

fn open_files(arguments: &Arguments) -> Result<Files> {
    let directory = openat(CWD, &arguments.store, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| arguments.store.display().to_string())?;
    let options = FilesOptions {
        owner: (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw()),
        mode: 0o755,
        quota: Quota { bytes: arguments.quota, inodes: 1 << 30 },
        rate: arguments.rate,
    };
    let key = match &arguments.key_file {
        None => StoreKey::random()?,
        Some(file) => {
            let text = Zeroizing::new(fs::read_to_string(file).with_context(|| file.display().to_string())?);
            let mut key = Zeroizing::new(unhex(text.trim()).context("a key is 64 hexadecimal digits")?);
            StoreKey::take(&mut key)?
        }
    };
    let Some(root) = &arguments.root else {
        return Ok(Files::new(Store::create(directory, key, Suite::best())?, options));
    };
    let (store, state) = Store::open(directory, key, root)?;
    Ok(Files::open(store, &state, [], options)?)
}

fn serve(arguments: &Arguments, files: Arc<Files>) -> Result<Session> {
    let devices = (0..arguments.session.threads.max(1)).map(|_| fuse::open_device());
    let devices: Vec<OwnedFd> = devices.collect::<Result<_, _>>().context("/dev/fuse")?;
    let at = arguments.directory.canonicalize().with_context(|| arguments.directory.display().to_string())?;
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let options = MountOptions { uid, gid };
    fuse::mount(&devices[0], &at, &options).with_context(|| format!("mounting at {}", at.display()))?;
    let session = Session::start(devices, files, arguments.session);
    if session.is_err() {
        fuse::unmount(&at).with_context(|| format!("unmounting {}", at.display()))?;
    }
    let session = session?;
    if let Err(error) = fuse::tune(&at, &Tuning::default()) {
        eprintln!("as the kernel has it, read-ahead and cache stay small: {error}");
    }
    eprintln!("mounted at {}", at.display());
    Ok(session)
}

/// Returns when the file system is unmounted, by others or because a signal asks for it.
fn wait_for_end(at: &Path, session: Session) -> Result<Vec<(Opcode, u64)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let mut ended = tokio::task::spawn_blocking(|| session.join());
        loop {
            tokio::select! {
                result = &mut ended => return Ok(result??),
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            fuse::unmount(at).with_context(|| format!("unmounting {}", at.display()))?;
            eprintln!("ends when the last file in it is closed");
        }
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() || !text.is_ascii() {
        bail!("not 64 hexadecimal digits");
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16)?;
    }
    Ok(bytes)
}
