//! The little of HTTP that metrics want: one path, read by one method, from those who name this host.
//!
//! A page of a stranger can make a browser ask any address, by a name of its own that leads there; so who asks by a name must ask by
//! ours or `localhost`. Connections are few and short: each has one request, and 10 s for all of it.

use std::{
    convert::Infallible,
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HOST, HeaderValue},
    http::uri::Authority,
    rt,
    server::conn::http1,
    service::service_fn,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

use super::Metrics;

/// More than any scraper needs; they are counted among the files that the server keeps for itself.
const CONNECTIONS_MAX: usize = 8;

/// For a connection from its first byte to its last.
const DEADLINE: Duration = Duration::from_secs(10);

/// After an error of accepting, as when no files are left.
const BACKOFF: Duration = Duration::from_millis(100);

/// What text of metrics is, by RFC 9110 and `OpenMetrics` 1.0.
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Answers whoever asks `listener`, which is called `host`, until dropped.
pub(in crate::program) async fn serve(listener: TcpListener, host: String, metrics: Metrics) {
    let server = Arc::new(Server { host, metrics });
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        // Who has to wait does so in the kernel. The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let server = Arc::clone(&server);
                connections.spawn(async move {
                    let _place = place;
                    let answer = service_fn(|request| std::future::ready(Ok::<_, Infallible>(server.answer(&request))));
                    let connection = http1::Builder::new().keep_alive(false).serve_connection(Stream(stream), answer);
                    if let Ok(Err(error)) = timeout(DEADLINE, connection).await {
                        tracing::debug!(%error, "a request for metrics broke off");
                    }
                });
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection for metrics");
                sleep(BACKOFF).await;
            }
        }
    }
}

struct Server {
    host: String,
    metrics: Metrics,
}

impl Server {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !names_us(request, &self.host) {
            return plain(StatusCode::MISDIRECTED_REQUEST, "not by this name\n");
        }
        if request.uri().path() != "/metrics" {
            return plain(StatusCode::NOT_FOUND, "there is /metrics\n");
        }
        if request.method() != Method::GET {
            let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "only to be read\n");
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            return refusal;
        }
        let mut response = Response::new(Full::from(self.metrics.text()));
        response.headers_mut().insert(CONTENT_TYPE, OPEN_METRICS);
        response
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Whether the request is for this host: by a number, by `localhost`, or by the name that it was told to listen on.
fn names_us<B>(request: &Request<B>, host: &str) -> bool {
    let mut named = request.headers().get_all(HOST).iter();
    let (Some(one), None) = (named.next(), named.next()) else { return false };
    one.to_str().is_ok_and(|one| is_ours(one, host))
}

fn is_ours(named: &str, host: &str) -> bool {
    let Ok(authority) = named.parse::<Authority>() else { return false };
    let named = authority.host();
    let number = named.strip_prefix('[').and_then(|named| named.strip_suffix(']')).unwrap_or(named);
    let is_number = number.parse::<IpAddr>().is_ok();
    is_number || named.eq_ignore_ascii_case("localhost") || named.eq_ignore_ascii_case(host)
}

/// A connection of tokio's, as hyper has them.
struct Stream(TcpStream);

impl rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut into: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; 1024];
        let most = into.remaining().min(bytes.len());
        let mut read = ReadBuf::new(&mut bytes[..most]);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut read))?;
        into.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl rt::Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_localhost_and_our_own_name_are_ours() {
        for (named, expected) in [
            ("127.0.0.1:9000", true),
            ("127.0.0.1", true),
            ("[::1]:9000", true),
            ("localhost", true),
            ("LOCALHOST:9000", true),
            ("metrics.example:9000", true),
            ("evil.example:9000", false),
            ("metrics.example.evil.example", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
            ("a b", false),
        ] {
            assert_eq!(is_ours(named, "metrics.example"), expected, "{named}");
        }
        for (hosts, expected) in [(&["localhost"][..], true), (&[], false), (&["localhost", "localhost"], false)] {
            let mut request = Request::new(());
            for host in hosts {
                request.headers_mut().append(HOST, HeaderValue::from_static(host));
            }
            assert_eq!(names_us(&request, "x"), expected, "{hosts:?}");
        }
    }
}
