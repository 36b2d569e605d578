//! The bucket: the workspace's S3 test server in a process of its own, so that its processor time is
//! nobody's. It is steered over a second loopback connection, a line for each order.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use siltstone_s3_test_server::{Fault, Rule, TestServer};

use crate::engine::Result as Done;
use crate::error::{Error, Result};

/// Where a server is and how it is spoken to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The URL of the S3 protocol.
    pub(crate) endpoint: String,
    /// The bucket.
    pub(crate) bucket: String,
    /// The access key id.
    pub(crate) access_key: String,
    /// The secret that goes with it.
    pub(crate) secret_key: String,
    /// The address that takes orders.
    control: String,
}

/// Requests by kind, as the server counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Requests {
    pub(crate) puts: u64,
    pub(crate) gets: u64,
    pub(crate) lists: u64,
    pub(crate) heads: u64,
    pub(crate) deletes: u64,
    pub(crate) in_sequence: u64,
}

impl Requests {
    /// All requests.
    pub(crate) fn all(&self) -> u64 {
        self.puts + self.gets + self.lists + self.heads + self.deletes
    }

    /// What a million operations cost in US dollars when `operations` took these requests, at the list
    /// price of S3 standard: 0.005 for 1,000 PUT, POST or LIST, 0.0004 for 1,000 GET or HEAD.
    pub(crate) fn price_of_a_million(&self, operations: u64) -> f64 {
        let written = (self.puts + self.lists) as f64 * 0.005 / 1000.0;
        let read = (self.gets + self.heads) as f64 * 0.0004 / 1000.0;
        (written + read) / operations.max(1) as f64 * 1e6
    }
}

/// A running server; ended when dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) place: Place,
}

impl Server {
    /// Starts one over the folder `dir`.
    pub(crate) fn start(dir: &Path) -> Result<Self> {
        let failed = |source| Error::io("start the bucket", source);
        let program = std::env::current_exe().map_err(failed)?;
        let mut process = Command::new(program)
            .arg("run-bucket")
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let mut line = String::new();
        if let Some(output) = process.stdout.take() {
            BufReader::new(output)
                .read_line(&mut line)
                .map_err(failed)?;
        }
        let place = serde_json::from_str(&line)
            .map_err(|error| failed(std::io::Error::other(error.to_string())))?;
        Ok(Self { process, place })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.process.kill().and_then(|()| self.process.wait());
        if let Err(error) = ended {
            eprintln!("the bucket did not end: {error}");
        }
    }
}

/// Serves the folder `dir` until this process is ended.
pub(crate) fn serve(dir: &Path) -> Result<()> {
    let failed = |source| Error::io("serve the bucket", source);
    let server = TestServer::start(dir).map_err(failed)?;
    let orders = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    let place = Place {
        endpoint: server.endpoint(),
        bucket: server.bucket().to_owned(),
        access_key: server.access_key().to_owned(),
        secret_key: server.secret_key().to_owned(),
        control: orders.local_addr().map_err(failed)?.to_string(),
    };
    println!("{}", serde_json::to_string(&place).unwrap_or_default());
    // One caller at a time: the processes that measure run one after another.
    for caller in orders.incoming() {
        let caller = caller.map_err(failed)?;
        let mut answers = caller.try_clone().map_err(failed)?;
        for order in BufReader::new(caller)
            .lines()
            .map_while(std::result::Result::ok)
        {
            let answer = obey(&server, &order);
            if writeln!(answers, "{answer}").is_err() {
                break;
            }
        }
    }
    Ok(())
}

/// Does what an order asks: `start over`, `tally`, or `delay MILLISECONDS`.
fn obey(server: &TestServer, order: &str) -> String {
    match order.split_once(' ') {
        Some(("start", _)) => server.traffic().start_over(),
        Some(("delay", ms)) => {
            server.faults().clear();
            let ms = ms.parse().unwrap_or(0);
            if ms > 0 {
                let away = Fault::Delay(Duration::from_millis(ms));
                server.faults().inject(Rule::always(away));
            }
        }
        _ => {}
    }
    let tally = server.traffic().tally();
    let requests = Requests {
        puts: tally.puts,
        gets: tally.gets,
        lists: tally.lists,
        heads: tally.heads,
        deletes: tally.deletes,
        in_sequence: tally.in_sequence,
    };
    serde_json::to_string(&requests).unwrap_or_default()
}

/// A connection that gives orders.
pub(crate) struct Control {
    orders: TcpStream,
    answers: BufReader<TcpStream>,
}

impl Control {
    pub(crate) fn connect(place: &Place) -> Done<Self> {
        let orders = TcpStream::connect(&place.control)?;
        orders.set_nodelay(true)?;
        let answers = BufReader::new(orders.try_clone()?);
        Ok(Self { orders, answers })
    }

    /// From now on every request is answered this much later.
    pub(crate) fn delay(&mut self, ms: u64) -> Done<()> {
        self.order(&format!("delay {ms}")).map(|_| ())
    }

    /// Counts requests from zero.
    pub(crate) fn start_over(&mut self) -> Done<()> {
        self.order("start over").map(|_| ())
    }

    /// The requests since then.
    pub(crate) fn requests(&mut self) -> Done<Requests> {
        self.order("tally")
    }

    fn order(&mut self, order: &str) -> Done<Requests> {
        writeln!(self.orders, "{order}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        Ok(serde_json::from_str(&answer)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_those_of_the_list() {
        let requests = Requests {
            puts: 1,
            gets: 10,
            deletes: 3,
            ..Requests::default()
        };
        let price = requests.price_of_a_million(1);
        assert!((price - 9.0).abs() < 1e-9, "{price}");
    }
}
