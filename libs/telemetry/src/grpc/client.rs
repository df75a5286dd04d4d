//! The client side: CLIENT span, deadline sent and enforced here too, verdict read.

use super::methods::Method;
use super::{GRPC_TIMEOUT, Subtrace, code_name, is_failure, read_status, write_timeout};
use crate::{Class, Deadline, Scope, Span};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::time::Sleep;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{BoxError, Layer, Service, ServiceExt as _};

/// Takes the [`Scope`] from the request's extensions. A call without one has no span and no deadline.
#[derive(Clone, Copy, Default)]
pub struct GrpcClientLayer;

impl<S> Layer<S> for GrpcClientLayer {
    type Service = GrpcClient<S>;

    fn layer(&self, inner: S) -> GrpcClient<S> {
        GrpcClient { inner }
    }
}

#[derive(Clone)]
pub struct GrpcClient<S> {
    inner: S,
}

impl<S, B> Service<Request<Body>> for GrpcClient<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    /// Always ready: readiness is waited for inside the call, under its deadline.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let inner = self.inner.clone();
        let scope = request.extensions().get::<Scope>().cloned().unwrap_or_else(Scope::detached);
        let method = Method::find(request.uri().path());
        let long_lived = method.is_some_and(|method| method.long_lived);
        let deadline = if long_lived { Deadline::none() } else { scope.deadline };
        let mut call = Call::begin(&scope, method.filter(|_| !long_lived));
        if deadline.passed() {
            return Box::pin(async move { Err(call.fail(Status::deadline_exceeded("no time left to call"))) });
        }
        call.span.inject(request.headers_mut());
        if !deadline.is_none()
            && let Ok(value) = HeaderValue::from_str(&write_timeout(deadline.remaining()))
        {
            request.headers_mut().insert(GRPC_TIMEOUT, value);
        }
        Box::pin(async move {
            let answer = tokio::time::timeout_at(deadline.instant(), inner.oneshot(request)).await;
            let response = match answer {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return Err(call.fail(transport_status(error.into(), deadline))),
                Err(_) => return Err(call.fail(Status::deadline_exceeded("no answer before the deadline"))),
            };
            call.note(response.headers());
            if let Some(code) = read_status(response.headers()) {
                call.finish(code);
            }
            let timer = (!deadline.is_none()).then(|| Box::pin(tokio::time::sleep_until(deadline.instant())));
            Ok(response.map(|inner| Body::new(ClientBody { inner: Box::pin(inner), call, deadline, timer })))
        })
    }
}

/// A transport that fails without saying why was not there; and tonic's own timer, which reads the header that we send
/// along, calls it cancelled when time is up.
fn transport_status(error: BoxError, deadline: Deadline) -> Status {
    let status = Status::from_error(error);
    match status.code() {
        Code::Unknown => Status::unavailable("the connection failed"),
        Code::Cancelled if deadline.passed() => Status::deadline_exceeded("no answer before the deadline"),
        _ => status,
    }
}

/// A call in progress; dropping it unfinished records it as cancelled.
struct Call {
    span: Span,
    method: Option<&'static Method>,
    finished: bool,
}

impl Call {
    fn begin(scope: &Scope, method: Option<&'static Method>) -> Self {
        let span = match method {
            Some(method) => {
                // From here on the trace is one that used the llm, for the calls beside this one as well.
                if method.llm {
                    scope.span.mark(Class::Llm);
                }
                let span = scope.span.client(method.full_name());
                span.with(|span| {
                    span.set("rpc.system.name", "grpc").set("rpc.method", method.full_name());
                });
                span.answered(None);
                span
            }
            None => Span::none(),
        };
        Self { span, method, finished: false }
    }

    /// A callee that keeps its subtree makes us keep the trace.
    fn note(&self, headers: &HeaderMap) {
        if let Some(subtrace) = Subtrace::read(headers) {
            self.span.answered(Some(subtrace));
        }
    }

    fn finish(&mut self, code: Code) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        self.span.set("rpc.response.status_code", code_name(code));
        if let (true, Some(method)) = (is_failure(code), self.method) {
            // Whether the request fails with it is for the caller to say; going on without is a fallback.
            self.span.fail_softly(code_name(code));
            self.span.degrade(method.full_name());
        } else if code != Code::Ok {
            self.span.fail_softly(code_name(code));
        }
        self.span.end();
    }

    fn fail(&mut self, status: Status) -> Status {
        self.finish(status.code());
        status
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.finished {
            self.span.event("cancelled");
            self.span.end();
        }
    }
}

/// Sees the trailers, and ends a body that outlives the deadline.
struct ClientBody<B> {
    inner: Pin<Box<B>>,
    call: Call,
    deadline: Deadline,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> HttpBody for ClientBody<B>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        match this.inner.as_mut().poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.call.note(trailers);
                    this.call.finish(read_status(trailers).unwrap_or(Code::Unknown));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Some(Err(this.call.fail(transport_status(error.into(), this.deadline)))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let late = this.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
                if !late {
                    return Poll::Pending;
                }
                this.timer = None;
                let status = Status::deadline_exceeded("the answer broke off at the deadline");
                Poll::Ready(Some(Err(this.call.fail(status))))
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
