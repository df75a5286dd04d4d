//! The server side: SERVER span, deadline, request metrics, verdict.

use super::methods::{Method, OTHER};
use super::{Subtrace, code_name, is_failure, read_status, read_timeout};
use crate::{Class, Deadline, Kind, Red, Scope, Span, Telemetry};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

/// What a call without a `grpc-timeout` gets, and the most that any call gets.
const MAX_DEADLINE: Duration = Duration::from_secs(60);

/// Wraps a service's routes. Handlers find their [`Scope`] with [`Scope::of`].
#[derive(Clone)]
pub struct GrpcServerLayer {
    telemetry: Telemetry,
    red: Red,
    max_deadline: Duration,
}

impl GrpcServerLayer {
    pub fn new(telemetry: &Telemetry) -> Self {
        let service = telemetry.info().service;
        let owned = super::METHODS.iter().filter(|method| method.owner == service).map(|method| method.endpoint);
        let red = Red::new(telemetry, owned.chain([OTHER]));
        Self { telemetry: telemetry.clone(), red, max_deadline: MAX_DEADLINE }
    }

    pub fn max_deadline(self, max_deadline: Duration) -> Self {
        Self { max_deadline, ..self }
    }
}

impl<S> Layer<S> for GrpcServerLayer {
    type Service = GrpcServer<S>;

    fn layer(&self, inner: S) -> GrpcServer<S> {
        GrpcServer { inner, layer: self.clone() }
    }
}

#[derive(Clone)]
pub struct GrpcServer<S> {
    inner: S,
    layer: GrpcServerLayer,
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S> Service<Request<Body>> for GrpcServer<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The clone was not polled ready; the original was.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let path = request.uri().path();
        let method = Method::find(path);
        let untraced = path.starts_with("/grpc.") || method.is_some_and(|method| method.long_lived);
        if untraced {
            return Box::pin(inner.call(request));
        }
        let timeout = read_timeout(request.headers()).unwrap_or(self.layer.max_deadline);
        let deadline = Deadline::after(timeout.min(self.layer.max_deadline));
        let mut call = Call::begin(&self.layer, method, request.headers(), deadline);
        request.extensions_mut().insert(Scope::new(call.span.clone(), deadline));
        Box::pin(async move {
            let mut response = match tokio::time::timeout_at(deadline.instant(), inner.call(request)).await {
                Ok(response) => response?,
                Err(_) => Status::deadline_exceeded("deadline exceeded").into_http(),
            };
            match read_status(response.headers()) {
                Some(code) => {
                    call.finish(code);
                    call.subtrace.inspect(|subtrace| subtrace.write(response.headers_mut()));
                    Ok(response)
                }
                None => {
                    call.span.subtrace().inspect(|subtrace| subtrace.write(response.headers_mut()));
                    Ok(response.map(|inner| Body::new(ServerBody { inner, call })))
                }
            }
        })
    }
}

/// A call in progress. Dropping it unfinished records it as cancelled, or as late when its deadline has passed.
struct Call {
    span: Span,
    red: Red,
    endpoint: &'static str,
    deadline: Deadline,
    finished: bool,
    subtrace: Option<Subtrace>,
}

impl Call {
    fn begin(
        layer: &GrpcServerLayer,
        method: Option<&'static Method>,
        headers: &HeaderMap,
        deadline: Deadline,
    ) -> Self {
        let telemetry = &layer.telemetry;
        let name = method.map_or("rpc.unknown", |method| method.span);
        let span = telemetry.adopt(name, Kind::Server, headers);
        span.with(|span| {
            span.set("rpc.system.name", "grpc").set("rpc.method", method.map_or("_OTHER", Method::full_name));
        });
        if method.is_some_and(|method| method.llm) {
            span.mark(Class::Llm);
        }
        let owned = method.filter(|method| method.owner == telemetry.info().service);
        let endpoint = owned.map_or(OTHER, |method| method.endpoint);
        layer.red.begin(endpoint);
        Self { span, red: layer.red.clone(), endpoint, deadline, finished: false, subtrace: None }
    }

    fn finish(&mut self, code: Code) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        self.span.set("rpc.response.status_code", code_name(code));
        if code == Code::DeadlineExceeded && self.span.is_asked_for() {
            // The caller has gone on without an answer and will not read this one. What became of the trace is for it to
            // say: were it kept from here, there would be nothing above.
            self.span.fail_softly(code_name(code));
        } else if is_failure(code) {
            self.span.fail(code_name(code));
        }
        self.subtrace = self.span.subtrace();
        self.red.record(self.endpoint, code, self.span.elapsed(), &self.span);
        self.span.end();
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.finished {
        } else if self.deadline.passed() {
            self.finish(Code::DeadlineExceeded);
        } else {
            self.span.event("cancelled");
            self.finish(Code::Cancelled);
        }
    }
}

/// Sees the trailers, ends the call and adds the verdict to them.
struct ServerBody {
    inner: Body,
    call: Call,
}

impl HttpBody for ServerBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    this.call.finish(read_status(trailers).unwrap_or(Code::Unknown));
                    this.call.subtrace.inspect(|subtrace| subtrace.write(trailers));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(status)) => {
                this.call.finish(status.code());
                Poll::Ready(Some(Err(status)))
            }
            None => {
                this.call.finish(Code::Unknown);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
