//! What is beyond this machine, for pods: a network that knows no way back to them.

use crate::bed::{Bed, shell};
use nix::sched::{CloneFlags, unshare};
use std::io::Write;
use std::net::TcpListener;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};

const LINK: &str = "sft32out";
/// Each with this machine's address in that network, and the other one.
const ADDRESSES: [[&str; 2]; 2] = [["10.212.32.1", "10.212.32.2"], ["fd00:212:32::1", "fd00:212:32::2"]];

fn ip(line: &str) {
    let said = Command::new("ip").args(line.split(' ')).output().expect("ip runs");
    assert!(
        said.status.success(),
        "ip {line}: {}",
        String::from_utf8_lossy(&said.stderr)
    );
}

fn address(number: usize, link: &str) {
    for (ends, prefix) in ADDRESSES.iter().zip([24, 64]) {
        let nodad = if prefix == 64 { " nodad" } else { "" };
        ip(&format!("address add {}/{prefix} dev {link}{nodad}", ends[number]));
    }
    ip(&format!("link set {link} up"));
}

/// Tells who calls; its network ends with the thread.
fn stranger(made: &Sender<i32>, connected: &Receiver<()>) {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network of its own");
    made.send(nix::unistd::gettid().as_raw()).expect("somebody waits");
    connected.recv().expect("a link");
    address(1, "eth9");
    let listener = TcpListener::bind("[::]:90").expect("bound");
    made.send(0).expect("somebody waits");
    for call in listener.incoming() {
        let mut call = call.expect("a call");
        let peer = call.peer_addr().expect("a peer").ip().to_canonical();
        writeln!(call, "{peer}").expect("told");
    }
}

#[tokio::test]
async fn pods_are_known_outside_by_the_addresses_of_the_machine() {
    let mut bed = Bed::dual(32).await;
    let ((made, is_made), (connect, connected)) = (channel(), channel());
    std::thread::spawn(move || stranger(&made, &connected));
    let thread = is_made.recv().expect("a stranger");
    ip(&format!("link add {LINK} type veth peer name eth9 netns {thread}"));
    address(0, LINK);
    connect.send(()).expect("a stranger");
    is_made.recv().expect("a server");
    let sandbox = bed.sandbox("client").await;
    let script = ADDRESSES
        .map(|[_, other]| format!("nc -w 10 {other} 90 </dev/null"))
        .join(" && ");
    let client = bed.run(&sandbox, shell("client", &script)).await;
    let ended = bed.ended(&client).await;
    let said = bed.output("client", "client");
    assert_eq!(ended.exit_code, 0, "{said}");
    assert_eq!(said, ADDRESSES.map(|[own, _]| format!("stdout F {own}\n")).concat());
    ip(&format!("link delete {LINK}"));
}
