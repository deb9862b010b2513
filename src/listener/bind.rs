//! From an address to a listening socket.
//!
//! Unix sockets are files: one that a dead process left is removed, one that somebody answers on is
//! not, and ours is unlinked at the end only while it is still ours.

use std::{
    io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use super::io::Stream;
use crate::{config::Address, exchange::Peer};

/// Why the listener can't start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// An address can't be listened on.
    #[error("can't listen on {name}: {cause}{}", help(.cause))]
    Address {
        /// The address as in the configuration.
        name: String,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// A worker's thread or runtime can't be made.
    #[error("can't start a worker: {0}")]
    Worker(#[source] io::Error),
}

/// A socket that listens.
#[derive(Debug)]
pub(super) struct Bound {
    socket: Socket,
    address: Address,
    name: Arc<str>,
    file: Option<SocketFile>,
}

impl Bound {
    /// The address with its real port.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Makes it known to the current runtime.
    pub(super) fn listen(self) -> io::Result<Listening> {
        let socket = match self.address {
            Address::Tcp(_) => Kind::Tcp(TcpListener::from_std(self.socket.into())?),
            Address::Unix(_) => Kind::Unix(UnixListener::from_std(self.socket.into())?),
        };
        Ok(Listening {
            socket,
            name: self.name,
            _file: self.file,
        })
    }
}

/// A socket that accepts on the current runtime.
#[derive(Debug)]
pub(super) struct Listening {
    socket: Kind,
    name: Arc<str>,
    _file: Option<SocketFile>,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listening {
    /// The address as text: the listener's name in logs and metrics.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Takes the next connection.
    pub(super) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.socket {
            Kind::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                Ok((Stream::Tcp(stream), Peer::Tcp(peer)))
            }
            Kind::Unix(socket) => {
                let (stream, _) = socket.accept().await?;
                Ok((Stream::Unix(stream), Peer::Unix))
            }
        }
    }
}

/// Binds addresses; `listen` is the whole list that they are part of.
pub(super) fn all(
    addresses: &[Address],
    listen: &[Address],
) -> Result<Vec<(Address, Bound)>, BindError> {
    let bound = |address: &Address| {
        bind(address, listen)
            .map(|socket| (address.clone(), socket))
            .map_err(|cause| BindError::Address {
                name: name(address),
                cause,
            })
    };
    addresses.iter().map(bound).collect()
}

fn bind(address: &Address, listen: &[Address]) -> io::Result<Bound> {
    let (socket, file) = match address {
        Address::Tcp(tcp) => (bind_tcp(*tcp, listen)?, None),
        Address::Unix(path) => bind_unix(path).map(|(socket, file)| (socket, Some(file)))?,
    };
    socket.set_nonblocking(true)?;
    let address = match (address, socket.local_addr()?.as_socket()) {
        (Address::Tcp(_), Some(real)) => Address::Tcp(real),
        (other, _) => other.clone(),
    };
    Ok(Bound {
        socket,
        name: name(&address).into(),
        address,
        file,
    })
}

fn bind_tcp(address: SocketAddr, listen: &[Address]) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6(address, listen))?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// `[::]` serves IPv4 too whatever the system's default is, unless `0.0.0.0` has the same port.
fn only_v6(address: SocketAddr, listen: &[Address]) -> bool {
    let same_port_v4 = |other: &Address| {
        matches!(other, Address::Tcp(tcp) if tcp.is_ipv4()
            && tcp.ip().is_unspecified()
            && tcp.port() != 0
            && tcp.port() == address.port())
    };
    !address.ip().is_unspecified() || listen.iter().any(same_port_v4)
}

fn bind_unix(path: &Path) -> io::Result<(Socket, SocketFile)> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::of(path)?;
    // Before `listen` nobody can connect, so the mode is never wider than this to a client.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    socket.listen(BACKLOG)?;
    Ok((socket, file))
}

/// Removes the socket of a process that is gone. A file of another kind is left alone, and `bind`
/// then fails with the right error.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A full backlog would block a blocking probe for ever; it means that somebody is there.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// The file of a unix socket that we bound.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let file = std::fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: file.dev(),
            inode: file.ino(),
        })
    }

    fn is_ours(&self) -> bool {
        std::fs::symlink_metadata(&self.path)
            .is_ok_and(|file| file.dev() == self.device && file.ino() == self.inode)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_ours()
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "can't remove the socket's file");
        }
    }
}

fn name(address: &Address) -> String {
    match address {
        Address::Tcp(tcp) => tcp.to_string(),
        Address::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn help(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::AddrInUse => {
            "; help: another process listens there already, stop it or choose another address"
        }
        io::ErrorKind::PermissionDenied => {
            "; help: a port below 1024 takes root or CAP_NET_BIND_SERVICE, a unix socket takes write permission in its directory"
        }
        io::ErrorKind::AddrNotAvailable => "; help: no interface of this machine has this address",
        _ => "",
    }
}

/// Connections that wait to be accepted; the system may cap it (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// Owner and group may connect.
const SOCKET_MODE: u32 = 0o660;
