//! What the tasks of a connection and its streams share: the table of streams, their windows, and the control frames
//! that wait to be written.

use super::frame::{Frame, reset};
use super::{Error, Role};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// What the standard lets be sent before anything was said about windows.
const STANDARD_WINDOW: u32 = 64 * 1024;

/// How much the other side may send on one stream before its reader takes it.
pub(crate) const STREAM_WINDOW: u32 = 256 * 1024;

/// How much the other side may send on all streams together.
pub(crate) const SESSION_WINDOW: u32 = 16 * 1024 * 1024;

/// Pieces of one stream that may wait for its reader, for the sake of peers without flow control.
const WAITING_PIECES_MAX: usize = 16;

/// Control frames that may wait to be written; more come only from a side that does not read.
const CONTROL_FRAMES_MAX: usize = 1024;

/// Streams at a time. A port-forward opens two per forwarded connection.
const STREAMS_MAX: usize = 1000;

/// One stream.
#[derive(Debug)]
struct Entry {
    /// Where its data goes; gone when the other side has finished.
    data: Option<mpsc::Sender<Bytes>>,
    /// Who waits for the other side's reply to our opening.
    opened: Option<oneshot::Sender<()>>,
    /// How much we may still send; negative if more was sent before windows were known to matter.
    window: i64,
    /// Taken by the reader, but not given back to the other side yet.
    taken: u32,
    is_finished: bool,
}

#[derive(Debug)]
struct State {
    streams: HashMap<u32, Entry>,
    next_stream: u32,
    last_peer_stream: u32,
    control: VecDeque<Frame>,
    updates: BTreeMap<u32, u32>,
    /// The other side has flow control.
    has_windows: bool,
    peer_initial_window: u32,
    session_window: i64,
    session_taken: u32,
    is_going_away: bool,
}

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Control frames wait for the writer.
    pub(crate) control_waits: Notify,
    /// A window has grown, or a stream has ended.
    pub(crate) windows_changed: Notify,
    /// The connection has ended.
    pub(crate) closed: CancellationToken,
    role: Role,
}

/// What the reading task has to do with a frame.
pub(crate) enum Delivery {
    Nothing,
    /// Hand the bytes to the stream's reader, which may mean to wait.
    Data(mpsc::Sender<Bytes>, u32, Bytes),
    /// Offer the stream to whoever accepts streams.
    Opened(u32, super::Headers, mpsc::Receiver<Bytes>),
}

impl Shared {
    pub(crate) fn new(role: Role) -> Self {
        let first = [
            Frame::Settings {
                initial_window: Some(STREAM_WINDOW),
            },
            Frame::WindowUpdate {
                stream: 0,
                delta: SESSION_WINDOW - STANDARD_WINDOW,
            },
        ];
        let state = State {
            streams: HashMap::new(),
            next_stream: if role == Role::Client { 1 } else { 2 },
            last_peer_stream: 0,
            control: first.into(),
            updates: BTreeMap::new(),
            has_windows: false,
            peer_initial_window: STANDARD_WINDOW,
            session_window: STANDARD_WINDOW.into(),
            session_taken: 0,
            is_going_away: false,
        };
        Self {
            state: Mutex::new(state),
            control_waits: Notify::new(),
            windows_changed: Notify::new(),
            closed: CancellationToken::new(),
            role,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the state")
    }

    /// Makes a stream of our own. The opening frame is queued under the same lock, so numbers go out in order.
    pub(crate) fn open(
        &self,
        headers: super::Headers,
    ) -> Result<(u32, mpsc::Receiver<Bytes>, oneshot::Receiver<()>), Error> {
        let mut state = self.state();
        if state.is_going_away || self.closed.is_cancelled() {
            return Err(Error::Closed);
        }
        let stream = state.next_stream;
        state.next_stream += 2;
        let (data, received) = mpsc::channel(WAITING_PIECES_MAX);
        let (opened, is_open) = oneshot::channel();
        state.insert(stream, data, Some(opened));
        state.control.push_back(Frame::SynStream {
            stream,
            fin: false,
            unidirectional: false,
            headers,
        });
        drop(state);
        self.control_waits.notify_one();
        Ok((stream, received, is_open))
    }

    /// Queues a control frame.
    fn control(&self, mut state: MutexGuard<'_, State>, frame: Frame) -> Result<(), Error> {
        if state.control.len() >= CONTROL_FRAMES_MAX {
            return Err(Error::Flooded);
        }
        state.control.push_back(frame);
        drop(state);
        self.control_waits.notify_one();
        Ok(())
    }

    /// Answers the opening of a stream.
    pub(crate) fn reply(&self, stream: u32) -> Result<(), Error> {
        self.control(self.state(), Frame::SynReply { stream, fin: false })
    }

    /// Ends a stream in both directions at once.
    pub(crate) fn reset(&self, stream: u32, status: u32) -> Result<(), Error> {
        let mut state = self.state();
        if state.streams.remove(&stream).is_none() {
            return Ok(());
        }
        self.windows_changed.notify_waiters();
        self.control(state, Frame::Reset { stream, status })
    }

    /// Takes the control frames that wait, window updates included.
    pub(crate) fn take_control(&self) -> Vec<Frame> {
        let mut state = self.state();
        let updates = std::mem::take(&mut state.updates);
        let updates = updates
            .into_iter()
            .map(|(stream, delta)| Frame::WindowUpdate { stream, delta });
        state.control.drain(..).chain(updates).collect()
    }

    /// How much may be sent on a stream now, at most `wanted`; `None` if it has ended.
    pub(crate) fn window(&self, stream: u32, wanted: u32) -> Option<u32> {
        self.state().open_window(stream, wanted)
    }

    /// As [`Shared::window`], and counts it as sent.
    pub(crate) fn spend(&self, stream: u32, wanted: u32) -> Option<u32> {
        let mut state = self.state();
        let open = state.open_window(stream, wanted)?;
        state.session_window -= i64::from(open);
        state.streams.get_mut(&stream)?.window -= i64::from(open);
        Some(open)
    }

    /// Nothing more will be sent on the stream. False if it had ended already.
    pub(crate) fn finish(&self, stream: u32) -> bool {
        let mut state = self.state();
        let Some(entry) = state.streams.get_mut(&stream) else {
            return false;
        };
        let first = !std::mem::replace(&mut entry.is_finished, true);
        state.forget_if_done(stream);
        first
    }

    /// The reader has taken bytes (or nobody wants them): the other side may send as many more.
    pub(crate) fn taken(&self, stream: u32, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let mut state = self.state();
        state.session_taken = state.session_taken.saturating_add(bytes);
        let mut grown = false;
        if state.session_taken >= SESSION_WINDOW / 2 {
            let delta = std::mem::take(&mut state.session_taken);
            *state.updates.entry(0).or_default() += delta;
            grown = true;
        }
        if let Some(entry) = state.streams.get_mut(&stream).filter(|entry| entry.data.is_some()) {
            entry.taken = entry.taken.saturating_add(bytes);
            if entry.taken >= STREAM_WINDOW / 2 {
                let delta = std::mem::take(&mut entry.taken);
                *state.updates.entry(stream).or_default() += delta;
                grown = true;
            }
        }
        drop(state);
        if grown {
            self.control_waits.notify_one();
        }
    }

    /// The number of the last stream that the other side opened.
    pub(crate) fn last_peer_stream(&self) -> u32 {
        self.state().last_peer_stream
    }

    /// The connection has ended: all readers see the end, all who wait are woken.
    pub(crate) fn close(&self) {
        self.closed.cancel();
        self.state().streams.clear();
        self.windows_changed.notify_waiters();
    }

    /// Takes note of a frame of the other side.
    pub(crate) fn receive(&self, frame: Frame) -> Result<Delivery, Error> {
        let mut state = self.state();
        match frame {
            Frame::SynStream {
                stream,
                fin,
                unidirectional,
                headers,
            } => {
                return self.peer_opens(state, stream, fin, unidirectional, headers);
            }
            Frame::Data { stream, fin, bytes } => return self.peer_sends(state, stream, fin, bytes),
            Frame::SynReply { stream, fin } | Frame::Headers { stream, fin } => {
                let opened = state.streams.get_mut(&stream).and_then(|entry| entry.opened.take());
                if opened.is_some_and(|opened| opened.send(()).is_err()) {
                    tracing::debug!(stream, "nobody waits for the stream any more");
                }
                if fin {
                    state.peer_finishes(stream);
                }
            }
            Frame::Reset { stream, .. } => {
                state.streams.remove(&stream);
                self.windows_changed.notify_waiters();
            }
            Frame::Settings {
                initial_window: Some(window),
            } => {
                state.change_initial_window(window);
                self.windows_changed.notify_waiters();
            }
            Frame::WindowUpdate { stream, delta } => {
                state.has_windows = true;
                if stream == 0 {
                    state.session_window += i64::from(delta);
                } else if let Some(entry) = state.streams.get_mut(&stream) {
                    entry.window += i64::from(delta);
                }
                self.windows_changed.notify_waiters();
            }
            Frame::Ping(id) if self.is_peers(id) => self.control(state, Frame::Ping(id))?,
            Frame::GoAway { .. } => state.is_going_away = true,
            Frame::Ping(_) | Frame::Settings { initial_window: None } | Frame::Unknown => {}
        }
        Ok(Delivery::Nothing)
    }

    fn is_peers(&self, id: u32) -> bool {
        let odd = id % 2 == 1;
        odd == (self.role == Role::Server)
    }

    fn peer_opens(
        &self,
        mut state: MutexGuard<'_, State>,
        stream: u32,
        fin: bool,
        unidirectional: bool,
        headers: super::Headers,
    ) -> Result<Delivery, Error> {
        if stream == 0 || !self.is_peers(stream) || stream <= state.last_peer_stream {
            self.control(
                state,
                Frame::Reset {
                    stream,
                    status: reset::PROTOCOL_ERROR,
                },
            )?;
            return Ok(Delivery::Nothing);
        }
        state.last_peer_stream = stream;
        if state.streams.len() >= STREAMS_MAX {
            self.control(
                state,
                Frame::Reset {
                    stream,
                    status: reset::REFUSED_STREAM,
                },
            )?;
            return Ok(Delivery::Nothing);
        }
        let (data, received) = mpsc::channel(WAITING_PIECES_MAX);
        state.insert(stream, data, None);
        if let Some(entry) = state.streams.get_mut(&stream) {
            entry.is_finished = unidirectional;
        }
        if fin {
            state.peer_finishes(stream);
        }
        Ok(Delivery::Opened(stream, headers, received))
    }

    fn peer_sends(
        &self,
        mut state: MutexGuard<'_, State>,
        stream: u32,
        fin: bool,
        bytes: Bytes,
    ) -> Result<Delivery, Error> {
        let Some(entry) = state.streams.get(&stream) else {
            drop(state);
            self.taken(stream, bytes.len());
            // What was under way when a stream ended is not an error; what never was a stream is.
            let state = self.state();
            let known = if self.is_peers(stream) {
                stream <= state.last_peer_stream
            } else {
                stream < state.next_stream
            };
            if !known {
                self.control(
                    state,
                    Frame::Reset {
                        stream,
                        status: reset::INVALID_STREAM,
                    },
                )?;
            }
            return Ok(Delivery::Nothing);
        };
        let data = entry.data.clone();
        if fin {
            state.peer_finishes(stream);
        }
        match data {
            Some(data) if !bytes.is_empty() => Ok(Delivery::Data(data, stream, bytes)),
            _ => Ok(Delivery::Nothing),
        }
    }
}

impl State {
    fn insert(&mut self, stream: u32, data: mpsc::Sender<Bytes>, opened: Option<oneshot::Sender<()>>) {
        let window = self.peer_initial_window.into();
        self.streams.insert(
            stream,
            Entry {
                data: Some(data),
                opened,
                window,
                taken: 0,
                is_finished: false,
            },
        );
    }

    fn open_window(&self, stream: u32, wanted: u32) -> Option<u32> {
        let entry = self.streams.get(&stream).filter(|entry| !entry.is_finished)?;
        if !self.has_windows {
            return Some(wanted);
        }
        u32::try_from(entry.window.min(self.session_window).clamp(0, wanted.into())).ok()
    }

    fn peer_finishes(&mut self, stream: u32) {
        if let Some(entry) = self.streams.get_mut(&stream) {
            entry.data = None;
        }
        self.forget_if_done(stream);
    }

    fn forget_if_done(&mut self, stream: u32) {
        if self
            .streams
            .get(&stream)
            .is_some_and(|entry| entry.is_finished && entry.data.is_none())
        {
            self.streams.remove(&stream);
        }
    }

    /// The new size holds for streams that are open, too (SPDY 3.1, section 2.6.8).
    fn change_initial_window(&mut self, window: u32) {
        let change = i64::from(window) - i64::from(self.peer_initial_window);
        self.peer_initial_window = window;
        self.has_windows = true;
        for entry in self.streams.values_mut() {
            entry.window += change;
        }
    }
}
