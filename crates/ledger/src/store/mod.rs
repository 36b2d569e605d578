//! How a ledger lies in its store: a manifest, a journal, CARs.
//!
//! ```text
//! manifest/<number>.manifest   the state: log of CARs, heads, redirect files, notes (numbered, fenced)
//! journal/<number>.journal     edits since, with the CARs of their commits
//! car/<cid>.car                what compactions wrote, and what came from elsewhere
//! away/<cid>.tail              the ends of CARs that are in a remote only
//! redirect/<number>.redirect   where the names of replaced CARs lead
//! pins/<id>.pin                what readers in other processes hold
//! ```

mod cache;
mod car_ref;
mod cars;
mod core;
mod follow;
mod journal;
mod open;
mod read_only;
mod redirects;
mod scope;
mod state;
mod table;
mod upkeep;

pub(crate) use cache::{HashAddresses, Slot};
pub use car_ref::{CarId, CarMeta, Location};
pub(crate) use car_ref::{car_name, car_of_name, tail_name};
pub(crate) use cars::{Cars, OpenCar, Origin, RAW_CID, check_framed, check_index, index_codec};
pub(crate) use core::{Here, NewCar, Store, pack};
pub(crate) use follow::{Found, lapsed, outrun};
pub use journal::Position;
pub(crate) use journal::frame::checksum;
pub(crate) use journal::{Journal, journal_name};
pub use open::OpenStats;
pub(crate) use open::read_state;
pub use redirects::RedirectFile;
pub(crate) use redirects::{
    add as add_redirects, decode as decode_redirects, load as load_redirects,
};
pub use scope::ScopedBlobs;
pub(crate) use siltstone_storage::Segment;
pub use state::{Edit, Floor, State};
pub use state::{Misfit, Swap};
