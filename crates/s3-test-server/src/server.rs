//! Starting and stopping the server.

use crate::faults::Faults;
use crate::serve::{Access, Shared, answer};
use crate::traffic::Traffic;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

const ACCESS_KEY: &str = "test-access-key";
const SECRET_KEY: &str = "test-secret-key";
const BUCKET: &str = "bucket";

/// A running server; dropped, it stops.
#[derive(Debug)]
pub struct TestServer {
    address: SocketAddr,
    faults: Faults,
    traffic: Traffic,
    runtime: Option<Runtime>,
}

impl TestServer {
    /// Serves the folder `dir` on a free loopback port; it gets a bucket, [`TestServer::bucket`].
    ///
    /// # Errors
    /// When the folder cannot be used or no port is free.
    pub fn start(dir: &Path) -> io::Result<Self> {
        Self::start_on(dir, 0)
    }

    /// Like [`TestServer::start`], on a given loopback port (0 for a free one).
    ///
    /// # Errors
    /// When the folder cannot be used or the port is taken.
    pub fn start_on(dir: &Path, port: u16) -> io::Result<Self> {
        std::fs::create_dir_all(dir.join(BUCKET))?;
        let files = FileSystem::new(dir).map_err(|error| io::Error::other(format!("{error:?}")))?;
        let faults = Faults::default();
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        service.set_access(Access {
            root: dir.to_path_buf(),
            faults: faults.clone(),
        });
        let traffic = Traffic::default();
        let shared = Shared::new(service.build(), faults.clone(), traffic.clone());

        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, port)))?;
        let address = listener.local_addr()?;
        runtime.spawn(accept(listener, shared));
        Ok(Self {
            address,
            faults,
            traffic,
            runtime: Some(runtime),
        })
    }

    /// The URL, for instance `http://127.0.0.1:40123`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The access key id that the server takes.
    pub fn access_key(&self) -> &'static str {
        ACCESS_KEY
    }

    /// The secret that goes with it.
    pub fn secret_key(&self) -> &'static str {
        SECRET_KEY
    }

    /// The bucket that is there from the start.
    pub fn bucket(&self) -> &'static str {
        BUCKET
    }

    /// The faults to come.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The count of its requests.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, shared.clone()));
            }
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    }
}

/// Serves one connection until either side closes it.
async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let Ok((stream, second_handle)) = two_handles(stream) else {
        return;
    };
    let socket = Arc::new(second_handle);
    let service = service_fn(|request| answer(shared.clone(), socket.clone(), request));
    // A connection that ends in an error was closed by a fault or by its client.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn two_handles(stream: TcpStream) -> io::Result<(TcpStream, TcpStream)> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    let second = TcpStream::from_std(stream.try_clone()?)?;
    Ok((TcpStream::from_std(stream)?, second))
}
