//! The side of whoever starts a file server.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::SERVER_ARGUMENT;
use super::message::{self, Found, Layer, Listed, MAX_READ, Reply, Report, Request, Setup, send_file};
use crate::limits::{Quota, Rate};
use crate::operations::Ino;
use crate::seal::StoreKey;

/// What a file server is to serve.
#[derive(Debug)]
pub struct ServerOptions {
    /// The program that calls [`super::server_main`], with its arguments.
    pub command: Vec<OsString>,
    pub quota: Quota,
    pub rate: Rate,
    /// User and group id that the server gives up root for.
    pub run_as: Option<u32>,
    /// Threads that serve.
    pub threads: u32,
    pub layers: Vec<Layer>,
    /// The directory of the store, empty.
    pub store: OwnedFd,
    pub key: StoreKey,
    /// Where the blobs of layers are, and their key.
    pub blobs: Option<(OwnedFd, Arc<StoreKey>)>,
    /// What [`super::LayerKind::Plain`] counts from 0.
    pub directories: Vec<OwnedFd>,
}

impl ServerOptions {
    /// The running program's own file as the server.
    pub fn own_command() -> Vec<OsString> {
        vec!["/proc/self/exe".into(), SERVER_ARGUMENT.into()]
    }
}

/// Why a file server can't be had, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("the file server can't be started")]
    Start(#[source] io::Error),
    #[error("the file server refuses: {why}")]
    Refused { why: String },
    #[error("the file server does not answer")]
    Gone(#[source] io::Error),
    #[error("a file can't be read back: the disk failed, or somebody changed what was on it")]
    Unreadable,
}

/// A running file server. Dropped, it ends, and the mount that it serves with it.
#[derive(Debug)]
pub struct FileServer {
    process: Child,
    control: Mutex<UnixStream>,
    mount: OwnedFd,
}

impl FileServer {
    /// Starts a server and waits until it has its files.
    ///
    /// # Errors
    /// When it can't be started, or can't do what it is asked.
    pub fn start(options: &ServerOptions) -> Result<Self, ServerError> {
        let (control, theirs) = UnixStream::pair().map_err(ServerError::Start)?;
        let (mount, mount_end) = UnixStream::pair().map_err(ServerError::Start)?;
        let (program, arguments) = options.command.split_first().ok_or_else(|| {
            ServerError::Start(io::Error::new(io::ErrorKind::InvalidInput, "there is no command"))
        })?;
        let process = Command::new(program)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .map_err(ServerError::Start)?;
        let server = FileServer { process, control: Mutex::new(control), mount: mount.into() };
        let told = server.tell(options, mount_end);
        let reply = message::read(&mut &*server.control());
        match (told, reply) {
            (Ok(()), Ok(Reply::Ready)) => Ok(server),
            (_, Ok(Reply::Failed { why })) => Err(ServerError::Refused { why }),
            (Err(error), _) | (_, Err(error)) => Err(ServerError::Gone(error)),
            (Ok(()), Ok(_)) => Err(ServerError::Gone(io::ErrorKind::InvalidData.into())),
        }
    }

    fn tell(&self, options: &ServerOptions, mount: UnixStream) -> io::Result<()> {
        let control = self.control();
        let setup = Setup {
            quota: options.quota,
            rate: options.rate,
            run_as: options.run_as,
            threads: options.threads.max(1),
            layers: options.layers.clone(),
            has_blobs: options.blobs.is_some(),
            directories: u32::try_from(options.directories.len()).map_err(io::Error::other)?,
        };
        message::write(&mut &*control, &setup)?;
        options.key.write_to(&mut &*control)?;
        send_file(&control, &options.store)?;
        if let Some((directory, key)) = &options.blobs {
            key.write_to(&mut &*control)?;
            send_file(&control, directory)?;
        }
        options.directories.iter().try_for_each(|directory| send_file(&control, directory))?;
        send_file(&control, mount)
    }

    /// A socket that takes the device of the mount, with a byte that carries the descriptor, and then four bytes: the user
    /// and group id of the files as the mount sees them, little-endian. A byte is the answer, when the mount is served.
    pub fn mount(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }

    /// What is used, and whether something went wrong.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn report(&self) -> Result<Report, ServerError> {
        match self.ask(&Request::Usage)? {
            (Reply::Usage(report), _) => Ok(report),
            _ => Err(ServerError::Gone(io::ErrorKind::InvalidData.into())),
        }
    }

    /// What is at a path, relative to the top of the mount.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn find(&self, path: &Path) -> Result<Found, ServerError> {
        match self.ask(&Request::Find { path: path.into() })? {
            (Reply::Found(found), _) => Ok(found),
            _ => Err(ServerError::Gone(io::ErrorKind::InvalidData.into())),
        }
    }

    /// What is in a directory, if it is one.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn list(&self, path: &Path) -> Result<Option<Vec<Listed>>, ServerError> {
        match self.ask(&Request::List { path: path.into() })? {
            (Reply::Listed(listed), _) => Ok(listed),
            _ => Err(ServerError::Gone(io::ErrorKind::InvalidData.into())),
        }
    }

    /// Reads from a file and returns how many bytes there were; at most 1 MiB at once.
    ///
    /// # Errors
    /// [`ServerError::Unreadable`], or when the server is gone.
    pub fn read(&self, ino: Ino, offset: u64, buffer: &mut [u8]) -> Result<usize, ServerError> {
        let length = u32::try_from(buffer.len()).unwrap_or(MAX_READ).min(MAX_READ);
        match self.ask(&Request::Read { ino, offset, length })? {
            (Reply::Bytes { length }, control) => {
                let bytes = buffer.get_mut(..length as usize);
                let bytes = bytes.ok_or_else(|| ServerError::Gone(io::ErrorKind::InvalidData.into()))?;
                (&*control).read_exact(bytes).map_err(ServerError::Gone)?;
                Ok(bytes.len())
            }
            (Reply::Unreadable, _) => Err(ServerError::Unreadable),
            _ => Err(ServerError::Gone(io::ErrorKind::InvalidData.into())),
        }
    }

    /// The reply, and the socket for what follows it.
    fn ask(&self, request: &Request) -> Result<(Reply, MutexGuard<'_, UnixStream>), ServerError> {
        let control = self.control();
        message::write(&mut &*control, request).map_err(ServerError::Gone)?;
        let reply = message::read(&mut &*control).map_err(ServerError::Gone)?;
        Ok((reply, control))
    }

    fn control(&self) -> MutexGuard<'_, UnixStream> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A file of a server as a stream of bytes, from its beginning.
#[derive(Debug)]
pub struct ServedFile<'a> {
    server: &'a FileServer,
    ino: Ino,
    offset: u64,
}

impl<'a> ServedFile<'a> {
    pub fn new(server: &'a FileServer, ino: Ino) -> Self {
        ServedFile { server, ino, offset: 0 }
    }
}

impl io::Read for ServedFile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.server.read(self.ino, self.offset, buffer).map_err(io::Error::other)?;
        self.offset += read as u64;
        Ok(read)
    }
}
