//! The databases that can take part, by name. To add one: a file here that implements
//! [`Engine`], its `mod` line, and its line in the list below (with a feature if it is a peer).

#[cfg(feature = "fjall")]
mod fjall;
mod floor;
#[cfg(feature = "lmdb")]
mod lmdb;
#[cfg(any(feature = "slatedb", feature = "surrealkv"))]
mod prefix;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod siltstone;
#[cfg(feature = "slatedb")]
mod slatedb;
#[cfg(feature = "surrealkv")]
mod surrealkv;

use crate::engine::{Engine, Family};
use crate::error::{Error, Result};

/// What is known of a database without opening it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About {
    /// The name on the command line and in the results.
    pub(crate) name: &'static str,
    /// Its kind; `None` if this build leaves it out.
    pub(crate) family: Option<Family>,
    /// Whether it can read at old commits.
    pub(crate) history: bool,
}

/// Code that is generic over the engine, to be run for one named at run time.
pub(crate) trait Visit {
    /// What the code returns.
    type Output;
    /// Runs for engine `E`.
    fn visit<E: Engine>(self) -> Self::Output;
}

/// One line an engine: its name, and its type if this build has it.
macro_rules! engines {
    ($($name:literal $(if $feature:literal)? => $engine:path,)*) => {
        /// Every database, in the order of the table, whether built in or not.
        pub(crate) const ALL: &[About] = &[$(
            #[cfg(all($(feature = $feature)?))]
            About {
                name: $name,
                family: Some(<$engine as Engine>::FAMILY),
                history: <$engine as Engine>::HISTORY,
            },
            $(
                #[cfg(not(feature = $feature))]
                About { name: $name, family: None, history: false },
            )?
        )*];

        /// Runs `visitor` for the engine called `name`.
        pub(crate) fn dispatch<V: Visit>(name: &str, visitor: V) -> Result<V::Output> {
            match name {
                $(
                    #[cfg(all($(feature = $feature)?))]
                    $name => Ok(visitor.visit::<$engine>()),
                )*
                _ => Err(unknown(name)),
            }
        }
    };
}

engines! {
    "siltstone" => siltstone::Siltstone,
    "rocksdb" if "rocksdb" => rocksdb::RocksDb,
    "fjall" if "fjall" => fjall::Fjall,
    "surrealkv" if "surrealkv" => surrealkv::SurrealKv,
    "slatedb" if "slatedb" => slatedb::SlateDb,
    "redb" if "redb" => redb::Redb,
    "lmdb" if "lmdb" => lmdb::Lmdb,
    "floor" => floor::Floor,
}

/// The error for a name that [`dispatch`] cannot serve.
pub(crate) fn unknown(name: &str) -> Error {
    let known = ALL.iter().any(|about| about.name == name);
    let names: Vec<_> = ALL
        .iter()
        .filter(|about| about.family.is_some())
        .map(|about| about.name)
        .collect();
    let names = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    };
    Error::Usage(if known {
        format!("this build leaves out {name}; add --features {name} (built in: {names})")
    } else {
        format!("there is no engine called {name} (built in: {names})")
    })
}
