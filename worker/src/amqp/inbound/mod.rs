//! Repairs bytes from the broker that the client library can't read. AMQP's short strings (names of headers,
//! properties, routing keys) are UTF-8 for the library and plain bytes for RabbitMQ; so one message of a careless
//! producer would end the connection at every delivery, for ever. The stream here repairs exactly that; a frame that is
//! wrong in another way is still refused by the library.
//!
//! Bodies aren't touched. Nothing here knows which message is whose.

mod stream;
mod texts;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures_util::io::{AsyncRead, AsyncWrite};
use futures_util::{Stream, TryFutureExt as _};
use lapin::tcp::{AMQPUriTcpExt as _, AsyncTcpStream, OwnedTLSConfig};
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};

use stream::RepairedStream;

/// Connects as lapin itself does, TLS included, but reads through [`RepairedStream`].
///
/// # Errors
/// As [`Connection::connect_uri_with_config`].
pub(super) async fn connect(
    uri: AMQPUri,
    properties: ConnectionProperties,
    tls: OwnedTLSConfig,
) -> lapin::Result<Connection> {
    let plain = Runtime::new(Tokio::current());
    let runtime = RuntimeParts::new(Tokio::current(), RepairingReactor(Tokio::current()));
    let open = async move |uri: AMQPUri, _| {
        let stream = uri.connect_with_config_async(tls.as_ref(), &plain).await?;
        Ok(AsyncTcpStream::Plain(RepairedStream::new(stream)))
    };
    Connection::connector(uri, runtime.into(), open, properties).await
}

/// Tokio's reactor, but for the type of its streams: lapin takes a stream of no other type than its reactor's.
#[derive(Debug, Clone)]
struct RepairingReactor(Tokio);

impl Reactor for RepairingReactor {
    type TcpStream = RepairedStream<AsyncTcpStream<<Tokio as Reactor>::TcpStream>>;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, time: Duration) -> Self::Sleep {
        self.0.sleep(time)
    }

    fn interval(&self, time: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(time)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        self.0.tcp_connect_addr(address).map_ok(|stream| RepairedStream::new(AsyncTcpStream::Plain(stream)))
    }
}

#[cfg(test)]
mod tests;
