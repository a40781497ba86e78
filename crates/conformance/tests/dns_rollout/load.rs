//! A thousand questions a second, and every answer with its moment.

use anyhow::{Context, ensure};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// The time between two questions.
const TICK: Duration = Duration::from_millis(1);

/// How long answers are waited for when there are no more questions.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which question it was.
#[derive(Clone, Copy, Debug)]
struct Asked {
    pod: Option<usize>,
    at: Instant,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The pod whose name was asked for; `None`: the Service's.
    pub(crate) pod: Option<usize>,
    pub(crate) asked: Instant,
    pub(crate) answered: Instant,
    pub(crate) addresses: Vec<Ipv4Addr>,
}

/// What came of it.
pub(crate) struct Report {
    pub(crate) answers: Vec<Answer>,
    pub(crate) unanswered: usize,
    /// The longest time for which the questions stopped although they should not.
    pub(crate) pause: Duration,
}

/// What the sender knows in the end.
struct Sent {
    pause: Duration,
    /// Questions whose number was used again.
    lost: usize,
}

/// Questions and answers under way.
pub(crate) struct Load {
    stop: watch::Sender<bool>,
    sender: JoinHandle<anyhow::Result<Sent>>,
    receiver: JoinHandle<anyhow::Result<Vec<Answer>>>,
    pending: Arc<Mutex<Vec<Option<Asked>>>>,
}

impl Load {
    pub(crate) async fn start(server: SocketAddr, pods: usize) -> anyhow::Result<Self> {
        let socket = Arc::new(UdpSocket::bind((server.ip(), 0)).await?);
        socket.connect(server).await?;
        let pending = Arc::new(Mutex::new(vec![None; 1 << 16]));
        let (stop, stopped) = watch::channel(false);
        Ok(Self {
            stop,
            sender: tokio::spawn(send(socket.clone(), pods, pending.clone(), stopped.clone())),
            receiver: tokio::spawn(receive(socket, pending.clone(), stopped)),
            pending,
        })
    }

    pub(crate) async fn stop(self) -> anyhow::Result<Report> {
        self.stop.send(true)?;
        let Sent { pause, lost } = self.sender.await??;
        let answers = self.receiver.await??;
        let unanswered = lost + self.pending.lock().expect("no panic").iter().flatten().count();
        Ok(Report {
            answers,
            unanswered,
            pause,
        })
    }
}

async fn send(
    socket: Arc<UdpSocket>,
    pods: usize,
    pending: Arc<Mutex<Vec<Option<Asked>>>>,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<Sent> {
    let mut ticks = interval(TICK);
    // After a pause there is no burst, which would only show how much sockets hold.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut pause, mut lost, mut last) = (Duration::ZERO, 0, Instant::now());
    for number in (0..=u16::MAX).cycle() {
        ticks.tick().await;
        let at = Instant::now();
        pause = pause.max(at - last);
        last = at;
        if *stopped.borrow() {
            return Ok(Sent { pause, lost });
        }
        let pod = Some(usize::from(number) % (pods + 1)).filter(|pod| *pod < pods);
        let before = pending.lock().expect("no panic")[usize::from(number)].replace(Asked { pod, at });
        lost += usize::from(before.is_some());
        socket.send(&question(number, pod)).await?;
    }
    anyhow::bail!("the numbers ended")
}

async fn receive(
    socket: Arc<UdpSocket>,
    pending: Arc<Mutex<Vec<Option<Asked>>>>,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<Vec<Answer>> {
    let (mut answers, mut packet) = (Vec::new(), [0; 1500]);
    loop {
        let received = timeout(PATIENCE, socket.recv(&mut packet)).await;
        let Ok(length) = received else {
            ensure!(*stopped.borrow(), "no answers any more");
            return Ok(answers);
        };
        let answered = Instant::now();
        let (number, addresses) = read(&packet[..length?]).context("the answer makes no sense")?;
        let (asked, is_all) = {
            let mut pending = pending.lock().expect("no panic");
            let asked = pending[usize::from(number)].take();
            (asked, *stopped.borrow() && pending.iter().all(Option::is_none))
        };
        let Asked { pod, at: asked } = asked.context("an answer to no question")?;
        answers.push(Answer {
            pod,
            asked,
            answered,
            addresses,
        });
        if is_all {
            return Ok(answers);
        }
    }
}

/// Asks for the address of a pod, or of all behind the Service.
fn question(number: u16, pod: Option<usize>) -> Vec<u8> {
    let pod = pod.map(|pod| format!("web-{pod}."));
    let name = format!("{}web.default.svc.cluster.local", pod.unwrap_or_default());
    let mut packet = number.to_be_bytes().to_vec();
    packet.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        packet.extend(u8::try_from(label.len()));
        packet.extend(label.as_bytes());
    }
    packet.extend([0, 0, 1, 0, 1]);
    packet
}

/// The question's number and the addresses of the answer; `None` if it is broken or an error other than "no such name".
fn read(packet: &[u8]) -> Option<(u16, Vec<Ipv4Addr>)> {
    let word = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    let code = word(2)? & 0xf;
    if code != 0 && code != 3 {
        return None;
    }
    let mut at = skip_name(packet, 12)? + 4;
    let mut addresses = Vec::new();
    for _ in 0..word(6)? {
        at = skip_name(packet, at)?;
        let (kind, length) = (word(at)?, usize::from(word(at + 8)?));
        let data = packet.get(at + 10..at + 10 + length)?;
        if let (1, Ok(octets)) = (kind, <[u8; 4]>::try_from(data)) {
            addresses.push(octets.into());
        }
        at += 10 + length;
    }
    Some((word(0)?, addresses))
}

fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            0xc0.. => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}
