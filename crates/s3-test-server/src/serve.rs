//! One request: draw a fault, take the key's lock, let the S3 service answer.

use crate::faults::{Fault, Faults};
use crate::traffic::Traffic;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use s3s::access::S3Access;
use s3s::dto::{
    CompleteMultipartUploadInput, CreateMultipartUploadInput, DeleteObjectsInput, PutObjectInput,
};
use s3s::service::S3Service;
use s3s::{Body, S3Request, S3Result, s3_error};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// Locks for keys: two keys may share one, which costs time and nothing else. So many that it is rare.
const LOCKS: usize = 1 << 14;

/// What all connections share.
pub(crate) struct Shared {
    service: S3Service,
    faults: Faults,
    traffic: Traffic,
    /// The file service checks a condition and renames in two steps; these make them one.
    locks: Vec<Mutex<()>>,
    /// A listing fails over a key that a deletion of many takes away meanwhile.
    bucket: Mutex<()>,
}

impl Shared {
    pub(crate) fn new(service: S3Service, faults: Faults, traffic: Traffic) -> Arc<Self> {
        Arc::new(Self {
            service,
            faults,
            traffic,
            locks: (0..LOCKS).map(|_| Mutex::new(())).collect(),
            bucket: Mutex::new(()),
        })
    }

    /// The lock of a key. Requests to a bucket, listings and deletions of many keys, have one of their own:
    /// they take long, and no key is to wait for them. Nothing here puts with `If-Match` what it deletes
    /// by one of many.
    fn lock_of(&self, key: &str) -> &Mutex<()> {
        if !key.trim_matches('/').contains('/') {
            return &self.bucket;
        }
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        &self.locks[(hasher.finish() % LOCKS as u64) as usize]
    }

    async fn carry_out(&self, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let (parts, body) = request.into_parts();
        // The body is read to its end before anything is refused, so that a refusal reaches a
        // client that is still sending.
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let request = Request::from_parts(parts, Body::from(body));
        let key = request.uri().path().to_string();
        let _one_at_a_time = self.lock_of(&key).lock().await;
        self.service
            .call(request)
            .await
            .map_err(|error| io::Error::other(format!("{error:?}")))
    }
}

/// Answers one request. An error closes the connection without an answer; `socket` is a second
/// handle on it, through which it is made a reset.
pub(crate) async fn answer(
    shared: Arc<Shared>,
    socket: Arc<TcpStream>,
    request: Request<Incoming>,
) -> io::Result<Response<Body>> {
    let _under_way = shared.traffic.arrive(request.method(), request.uri());
    let method = request.method().as_str();
    let path = request
        .uri()
        .path_and_query()
        .map_or("", |path| path.as_str());
    match shared.faults.draw(method, path) {
        None => shared.carry_out(request).await,
        Some(Fault::Delay(duration)) => {
            tokio::time::sleep(duration).await;
            shared.carry_out(request).await
        }
        Some(Fault::Unavailable) => {
            read_to_end(request).await?;
            Ok(refusal(StatusCode::SERVICE_UNAVAILABLE, "SlowDown"))
        }
        Some(Fault::Reset) => reset(&socket),
        Some(Fault::ResetAfterCommit) => {
            shared.carry_out(request).await?;
            reset(&socket)
        }
        Some(Fault::ErrorAfterCommit) => {
            let answer = shared.carry_out(request).await?;
            // A request that was refused changed nothing: the refusal stands.
            match answer.status().is_success() {
                true => Ok(refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError")),
                false => Ok(answer),
            }
        }
    }
}

async fn read_to_end(request: Request<Incoming>) -> io::Result<()> {
    let read = tokio::time::timeout(Duration::from_secs(10), request.into_body().collect());
    read.await
        .map_err(io::Error::other)?
        .map_err(io::Error::other)?;
    Ok(())
}

fn refusal(status: StatusCode, code: &str) -> Response<Body> {
    let xml = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
    let mut response = Response::new(Body::from(xml));
    *response.status_mut() = status;
    response
}

fn reset(socket: &TcpStream) -> io::Result<Response<Body>> {
    socket.set_zero_linger()?;
    Err(io::Error::from(io::ErrorKind::ConnectionReset))
}

/// What every put passes: signed, into a bucket that exists, and stripped of its conditions when the
/// faults say so.
pub(crate) struct Access {
    pub(crate) root: PathBuf,
    pub(crate) faults: Faults,
}

impl Access {
    /// The file service would make a bucket of any name on the first put.
    fn check_bucket(&self, bucket: &str) -> S3Result<()> {
        match self.root.join(bucket).is_dir() {
            true => Ok(()),
            false => Err(s3_error!(NoSuchBucket)),
        }
    }
}

#[async_trait::async_trait]
impl S3Access for Access {
    async fn put_object(&self, request: &mut S3Request<PutObjectInput>) -> S3Result<()> {
        if self.faults.conditions_ignored() {
            request.input.if_none_match = None;
            request.input.if_match = None;
        }
        self.check_bucket(&request.input.bucket)
    }

    async fn delete_objects(&self, _: &mut S3Request<DeleteObjectsInput>) -> S3Result<()> {
        match self.faults.bulk_deletions_refused() {
            true => Err(s3_error!(NotImplemented)),
            false => Ok(()),
        }
    }

    async fn create_multipart_upload(
        &self,
        request: &mut S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<()> {
        self.check_bucket(&request.input.bucket)
    }

    async fn complete_multipart_upload(
        &self,
        request: &mut S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<()> {
        if self.faults.conditions_ignored() {
            request.input.if_none_match = None;
            request.input.if_match = None;
        }
        Ok(())
    }
}
