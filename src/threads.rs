//! Threads, where there may be none: a limit of processes (`ulimit -u`, or a container's) counts threads, too.
//!
//! The standard library's own `thread::spawn`, and tokio's `spawn_blocking`, panic then. Here it is an error like others.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};

use rustix::io::{Errno, fcntl_dupfd_cloexec};
use tokio::runtime::{self, Handle, Runtime};
use tokio::sync::oneshot;

/// Starts a thread of that name.
///
/// # Errors
/// When there is no thread to be had: why, and what to do.
pub fn spawn<T: Send + 'static>(name: &str, run: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).spawn(run).map_err(explain)
}

/// Starts a thread with a runtime of its own.
///
/// # Errors
/// As for [`spawn`], and when there are no files for the runtime.
pub fn with_runtime<T: Send + 'static>(
    name: &str,
    run: impl FnOnce(&Runtime) -> T + Send + 'static,
) -> io::Result<(Handle, JoinHandle<T>)> {
    let runtime = runtime()?;
    let handle = runtime.handle().clone();
    // The runtime follows once the thread is there. In a closure that found no thread it would be dropped with it, which
    // panics where a runtime is at work already.
    let (give, take) = mpsc::channel::<Runtime>();
    match spawn(name, move || run(&take.recv().expect("the runtime follows"))) {
        Ok(thread) => {
            give.send(runtime).expect("the thread waits for it");
            Ok((handle, thread))
        }
        Err(error) => {
            runtime.shutdown_background();
            Err(error)
        }
    }
}

/// A runtime for the current thread.
///
/// # Errors
/// When there are not files enough for it.
pub fn runtime() -> io::Result<Runtime> {
    // The first runtime makes what signals are told through, and panics without files for that: ask before.
    let needed = 8;
    let files: Result<Vec<_>, _> = (0..needed).map(|_| fcntl_dupfd_cloexec(io::stderr(), 0)).collect();
    drop(files.map_err(|error| explain(error.into()))?);
    runtime::Builder::new_current_thread().enable_all().build().map_err(explain)
}

/// Does what blocks on a thread of its own.
///
/// # Errors
/// As for [`spawn`], and those of `work`.
pub async fn blocking<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (tell, told) = oneshot::channel();
    spawn(name, move || drop(tell.send(work())))?; // who has stopped waiting is not told
    told.await.unwrap_or_else(|_| Err(io::Error::other("its thread has panicked")))
}

/// All addresses of a host, at that port.
///
/// # Errors
/// When the name cannot be resolved, or there is no thread to wait for the name server.
pub async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let host = host.to_owned();
    blocking("look-up", move || Ok((host.as_str(), port).to_socket_addrs()?.collect())).await
}

/// Whether an error means that there was no thread, or no process, to be had.
pub fn none_left(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Says which limit an error comes from, where that is known.
pub fn explain(error: io::Error) -> io::Error {
    let limit = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::AGAIN) => "the limit of processes and threads is reached: see ulimit -u",
        Some(Errno::MFILE) => "the limit of open files is reached: see ulimit -n",
        _ => return error,
    };
    io::Error::new(error.kind(), format!("{error}; {limit}"))
}
