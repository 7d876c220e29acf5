//! Talks over an abstract unix socket, to show who can.
//!
//! ```text
//! abstract_socket connect NAME
//! abstract_socket serve NAME COMMAND [ARGUMENT]...
//! ```
//!
//! `serve` listens, runs the command, and waits for one connection. Both say what happened.

#![expect(clippy::print_stdout, reason = "an example is a program")]
#![expect(clippy::disallowed_methods, reason = "starts another program")]

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::Command;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        ["connect", name] => connect(name),
        ["serve", name, command @ ..] => serve(name, command),
        _ => Err(io::Error::other("usage: abstract_socket connect|serve NAME [COMMAND]...")),
    };
    match result {
        Ok(what) => println!("{what}"),
        Err(error) => println!("error: {error}"),
    }
}

fn connect(name: &str) -> io::Result<&'static str> {
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?;
    Ok("connected")
}

fn serve(name: &str, command: &[&str]) -> io::Result<&'static str> {
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
    listener.set_nonblocking(true)?;
    let (program, arguments) = command.split_first().unwrap_or((&"true", &[]));
    Command::new(program).args(arguments).status()?;
    listener.accept()?;
    Ok("accepted")
}
