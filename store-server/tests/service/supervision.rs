//! What a supervisor such as systemd is told.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{Name, Server, program};

#[track_caller]
fn is_told(socket: &UnixDatagram, address: &str) {
    let name = Name::posix();
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    let next = || {
        let mut bytes = [0; 64];
        let length = loop {
            match socket.recv(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => break received.expect("a message"),
            }
        };
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    let mut command = program();
    command.args(["--store", &name.0.to_string(), "--size", "4MiB"]).env("NOTIFY_SOCKET", address);
    let mut server = Server::start(&mut command);
    assert_eq!(next(), "READY=1");
    store_client::Reader::attach(&name.0).expect("it is ready");
    assert_eq!(server.end(Signal::SIGTERM), Some(0));
    assert_eq!(next(), "STOPPING=1");
}

#[test]
fn a_socket_with_a_path_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    is_told(&socket, path.to_str().expect("text"));
}

#[test]
fn an_abstract_socket_is_told() {
    let name = format!("cistern-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("an address");
    let socket = UnixDatagram::bind_addr(&address).expect("a socket");
    is_told(&socket, &format!("@{name}"));
}

#[test]
fn a_socket_that_is_not_there_does_not_end_it() {
    let name = Name::posix();
    let mut command = program();
    command.args(["--store", &name.0.to_string(), "--size", "4MiB"]);
    let mut server = Server::start(command.env("NOTIFY_SOCKET", "/no/such/socket"));
    server.says("ready");
    assert_eq!(server.end(Signal::SIGTERM), Some(0));
}
