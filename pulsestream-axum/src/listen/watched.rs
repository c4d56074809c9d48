//! A stream whose peer must read what is written to it, and hears the last of it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Fails a write that makes no progress for a while: a client that does not read its answer holds memory and a place.
///
/// Ends in two steps when the client has sent more than was read: first nothing more is written, then what still comes is read and
/// thrown away, for as long as a write may wait. Closing at once would reset the connection, and take the answer with it.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    limit: Duration,
    /// When the write that waits, or the reading at the end, is over; made for the first that has to wait.
    deadline: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
    ending: Ending,
}

/// How far the end of a stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It is in use.
    Open,
    /// Nothing more is written.
    Shut,
    /// The client still sends.
    Lingering,
}

/// How much is thrown away in one step.
const PIECE_BYTES: usize = 16 << 10;

impl<S> Watched<S> {
    pub(super) fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, deadline: None, is_waiting: false, ending: Ending::Open }
    }

    /// Passes the outcome of a write on, unless it has waited for too long.
    fn judge<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.is_waiting = false;
            return outcome;
        }
        ready!(self.wait(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer")))
    }

    /// Completes when what waits has waited for as long as it may.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if !std::mem::replace(&mut self.is_waiting, true) {
            deadline.as_mut().reset(Instant::now() + limit);
        }
        deadline.as_mut().poll(context)
    }
}

impl<S: AsyncRead + Unpin> Watched<S> {
    /// Reads what the client has sent and sends until it is done, if there is anything.
    fn read_out(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut piece = [0; PIECE_BYTES];
        loop {
            let mut buffer = ReadBuf::new(&mut piece);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    if self.ending != Ending::Lingering {
                        self.ending = Ending::Lingering;
                        self.is_waiting = false;
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending if self.ending == Ending::Lingering => return self.wait(context),
                Poll::Pending => return Poll::Ready(()),
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.judge(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.judge(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ending == Ending::Open {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            self.ending = Ending::Shut;
        }
        self.read_out(context).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_slowly_is_waited_for_and_one_that_does_not_is_not() {
        let second = Duration::from_secs(1);
        let (stream, mut peer) = tokio::io::duplex(10);
        let mut stream = Watched::new(stream, 30 * second);
        let reader = tokio::spawn(async move {
            for _ in 0..5 {
                tokio::time::sleep(29 * second).await;
                peer.read_exact(&mut [0; 10]).await.unwrap();
            }
            peer
        });
        stream.write_all(&[7; 60]).await.unwrap();
        let _open = reader.await.unwrap();
        let started = Instant::now();
        let error = stream.write_all(&[7; 60]).await.unwrap_err();
        assert_eq!((error.kind(), started.elapsed()), (io::ErrorKind::TimedOut, 30 * second));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_a_peer_that_still_sends_and_for_no_other() {
        let second = Duration::from_secs(1);
        let started = Instant::now();
        let (stream, _silent) = tokio::io::duplex(10);
        Watched::new(stream, 30 * second).shutdown().await.unwrap();
        assert_eq!(started.elapsed(), Duration::ZERO, "a peer that sends nothing");

        let (stream, mut peer) = tokio::io::duplex(10);
        peer.write_all(&[7; 10]).await.unwrap();
        let sender = tokio::spawn(async move {
            let mut end = Vec::new();
            peer.read_to_end(&mut end).await.unwrap();
            tokio::time::sleep(20 * second).await;
            peer.write_all(&[7; 60]).await.unwrap();
        });
        Watched::new(stream, 30 * second).shutdown().await.unwrap();
        sender.await.unwrap();
        assert_eq!(started.elapsed(), 20 * second, "a peer that reads its answer and then ends");

        let (stream, mut peer) = tokio::io::duplex(10);
        peer.write_all(&[7; 10]).await.unwrap();
        Watched::new(stream, 30 * second).shutdown().await.unwrap();
        assert_eq!(started.elapsed(), 50 * second, "a peer that never ends");
    }
}
