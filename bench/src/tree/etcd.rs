//! etcd, started on loopback with its defaults and driven by as many clients as the tree's own
//! workload has. The two messages of a put are written out here, so that a build needs no protocol
//! compiler.

use super::Job;
use super::work::Result;
use crate::figure::Row;

/// Whether this build can drive it.
pub(crate) const BUILT: bool = cfg!(feature = "etcd");

/// Whether it can be run here.
pub(crate) fn is_there() -> bool {
    BUILT
        && std::process::Command::new("etcd")
            .arg("--version")
            .output()
            .is_ok_and(|output| output.status.success())
}

#[cfg(not(feature = "etcd"))]
pub(crate) fn patch_durable(_job: &Job) -> Result<Vec<Row>> {
    Err("this build has no etcd; add --features etcd".into())
}

#[cfg(feature = "etcd")]
pub(crate) use driven::patch_durable;

#[cfg(feature = "etcd")]
mod driven {
    use std::net::TcpListener;
    use std::process::{Child, Command, Stdio};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use tonic::client::Grpc;
    use tonic::transport::{Channel, Endpoint};
    use tonic_prost::ProstCodec;

    use super::{Job, Result, Row};
    use crate::latency::Latencies;
    use crate::tree::work::{CLIENTS, VALUE_BYTES, durable_row};

    /// Connections; each carries as many clients as the next.
    const CONNECTIONS: usize = 16;

    /// `etcdserverpb.PutRequest`, as far as it is used.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Put {
        #[prost(bytes = "vec", tag = "1")]
        key: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        value: Vec<u8>,
    }

    /// `etcdserverpb.PutResponse`; nothing of it is looked at.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Done {}

    /// A server that ends with this value.
    struct Server(Child);

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn start(job: &Job) -> Result<(Server, String)> {
        let port = || -> Result<u16> {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            Ok(listener.local_addr()?.port())
        };
        let url = format!("http://127.0.0.1:{}", port()?);
        let peers = format!("http://127.0.0.1:{}", port()?);
        let data = job.dir.join("etcd");
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(data)
            .args(["--listen-client-urls", &url])
            .args(["--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peers])
            .args(["--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &format!("default={peers}")])
            .args(["--log-level", "error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok((Server(child), url))
    }

    async fn put(client: &mut Grpc<Channel>, key: &str, value: String) -> Result<()> {
        client.ready().await?;
        let message = Put {
            key: key.as_bytes().to_vec(),
            value: value.into_bytes(),
        };
        let path = http::uri::PathAndQuery::from_static("/etcdserverpb.KV/Put");
        let codec = ProstCodec::<Put, Done>::default();
        let request = tonic::Request::new(message);
        client.unary(request, path, codec).await?;
        Ok(())
    }

    async fn connect(url: &str) -> Result<Grpc<Channel>> {
        let endpoint = Endpoint::from_shared(url.to_owned())?;
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let tried = async {
                let mut client = Grpc::new(endpoint.connect().await?);
                put(&mut client, "probe", String::new()).await?;
                Ok(client)
            };
            match tried.await {
                Err::<_, Box<dyn std::error::Error + Send + Sync>>(_)
                    if Instant::now() < deadline =>
                {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                done => return done,
            }
        }
    }

    pub(crate) fn patch_durable(job: &Job) -> Result<Vec<Row>> {
        let (_server, url) = start(job)?;
        let runtime = Arc::new(
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?,
        );
        let connections: Vec<_> = (0..CONNECTIONS)
            .map(|_| runtime.block_on(connect(&url)))
            .collect::<Result<_>>()?;
        let end = Arc::new(AtomicBool::new(false));
        let tasks: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let mut connection = connections[client % CONNECTIONS].clone();
                let end = Arc::clone(&end);
                runtime.spawn(async move {
                    let key = format!("/clients/c{client:02}/value");
                    let mut number = 0_u64;
                    let mut latencies = Latencies::start();
                    while !end.load(Ordering::Relaxed) {
                        let value = format!("{number:0width$}", width = VALUE_BYTES);
                        put(&mut connection, &key, value).await?;
                        latencies.lap();
                        number += 1;
                    }
                    Ok::<_, Box<dyn std::error::Error + Send + Sync>>(latencies)
                })
            })
            .collect();
        let start = Instant::now();
        std::thread::sleep(Duration::from_secs(job.seconds));
        end.store(true, Ordering::Relaxed);
        let took = start.elapsed();
        let clients = tasks
            .into_iter()
            .map(|task| {
                let runtime = Arc::clone(&runtime);
                std::thread::spawn(move || runtime.block_on(task)?)
            })
            .collect();
        durable_row("etcd", clients, took)
    }
}
