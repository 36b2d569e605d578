//! Opening a bucket: settings, the check that credentials are there, and the HTTP client. Without
//! explicit credentials nothing is opened: the clients would ask the metadata address of a cloud
//! machine, which hangs elsewhere and hands out a role that nobody chose here.

use super::ObjectBlobs;
use super::bulk::Bulk;
use crate::error::{Error, Result};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::limit::LimitStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Limit for reaching the store.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Limit for one request, its body included (16 MiB at most).
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Requests of one store under way at once; more wait for their turn.
const MAX_REQUESTS: usize = 64;
/// Repeats of a request that the store or the network refused for the moment.
const MAX_RETRIES: usize = 7;
/// No repeat starts later than this after the first request.
const RETRY_LIMIT: Duration = Duration::from_secs(20);
/// The first pause between repeats; pauses grow from here, with jitter.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// The longest pause between repeats.
const MAX_BACKOFF: Duration = Duration::from_secs(3);

/// Text that shows itself to nobody.
#[derive(Clone)]
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Looks settings up by the name of their environment variable; an empty one counts as not set.
struct Lookup<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Lookup<'_> {
    fn any(&self, names: &[&str]) -> Option<String> {
        names
            .iter()
            .find_map(|name| (self.0)(name).filter(|value| !value.is_empty()))
    }
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// How to reach a bucket of S3 or of a store that speaks its protocol.
#[derive(Debug, Clone)]
pub struct S3Settings {
    bucket: String,
    access_key_id: String,
    secret_access_key: Secret,
    session_token: Option<Secret>,
    region: String,
    endpoint: Option<String>,
}

impl S3Settings {
    /// Static credentials for `bucket`, in region `us-east-1` of AWS until told otherwise.
    pub fn new(bucket: &str, access_key_id: &str, secret_access_key: &str) -> Self {
        Self {
            bucket: bucket.into(),
            access_key_id: access_key_id.into(),
            secret_access_key: Secret(secret_access_key.into()),
            session_token: None,
            region: "us-east-1".into(),
            endpoint: None,
        }
    }

    /// Settings from the usual variables: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
    /// `AWS_SESSION_TOKEN`, `AWS_REGION` (or `AWS_DEFAULT_REGION`), `AWS_ENDPOINT_URL_S3` (or
    /// `AWS_ENDPOINT_URL`), as `lookup` answers for them.
    ///
    /// # Errors
    /// [`Error::Credentials`] when key id or secret is missing.
    pub fn from_lookup(bucket: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let lookup = Lookup(&lookup);
        let key = lookup.any(&["AWS_ACCESS_KEY_ID"]);
        let secret = lookup.any(&["AWS_SECRET_ACCESS_KEY"]);
        let (Some(key), Some(secret)) = (key, secret) else {
            return Err(Error::Credentials {
                store: format!("s3://{bucket}"),
                what: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN for \
                       temporary ones)",
            });
        };
        let mut settings = Self::new(bucket, &key, &secret);
        settings.session_token = lookup.any(&["AWS_SESSION_TOKEN"]).map(Secret);
        settings.endpoint = lookup.any(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
        if let Some(region) = lookup.any(&["AWS_REGION", "AWS_DEFAULT_REGION"]) {
            settings.region = region;
        }
        Ok(settings)
    }

    /// The region.
    #[must_use]
    pub fn region(mut self, region: &str) -> Self {
        self.region = region.into();
        self
    }

    /// The URL of a store that is not AWS. Plain `http` is taken for loopback addresses only.
    #[must_use]
    pub fn endpoint(mut self, url: &str) -> Self {
        self.endpoint = Some(url.into());
        self
    }

    /// Temporary credentials carry a session token.
    #[must_use]
    pub fn session_token(mut self, token: &str) -> Self {
        self.session_token = Some(Secret(token.into()));
        self
    }
}

/// How to reach a bucket of Google Cloud Storage.
#[derive(Debug, Clone)]
pub struct GcsSettings {
    bucket: String,
    account: ServiceAccount,
}

#[derive(Debug, Clone)]
enum ServiceAccount {
    File(String),
    Key(Secret),
}

impl GcsSettings {
    /// A service account by its key file.
    pub fn with_key_file(bucket: &str, path: &str) -> Self {
        Self {
            bucket: bucket.into(),
            account: ServiceAccount::File(path.into()),
        }
    }

    /// Settings from `GOOGLE_SERVICE_ACCOUNT_KEY` (the JSON itself), `GOOGLE_SERVICE_ACCOUNT` or
    /// `GOOGLE_APPLICATION_CREDENTIALS` (the path of its file), as `lookup` answers for them.
    ///
    /// # Errors
    /// [`Error::Credentials`] when none is set.
    pub fn from_lookup(bucket: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let lookup = Lookup(&lookup);
        if let Some(key) = lookup.any(&["GOOGLE_SERVICE_ACCOUNT_KEY"]) {
            return Ok(Self {
                bucket: bucket.into(),
                account: ServiceAccount::Key(Secret(key)),
            });
        }
        match lookup.any(&["GOOGLE_SERVICE_ACCOUNT", "GOOGLE_APPLICATION_CREDENTIALS"]) {
            Some(path) => Ok(Self::with_key_file(bucket, &path)),
            None => Err(Error::Credentials {
                store: format!("gs://{bucket}"),
                what: "set GOOGLE_APPLICATION_CREDENTIALS to the key file of a service account",
            }),
        }
    }
}

/// How to reach a container of Azure Blob Storage.
#[derive(Debug, Clone)]
pub struct AzureSettings {
    container: String,
    account: String,
    access_key: Secret,
    endpoint: Option<String>,
}

impl AzureSettings {
    /// An account by its access key.
    pub fn new(container: &str, account: &str, access_key: &str) -> Self {
        Self {
            container: container.into(),
            account: account.into(),
            access_key: Secret(access_key.into()),
            endpoint: None,
        }
    }

    /// Settings from `AZURE_STORAGE_ACCOUNT_NAME`, `AZURE_STORAGE_ACCOUNT_KEY` and
    /// `AZURE_STORAGE_ENDPOINT`, as `lookup` answers for them.
    ///
    /// # Errors
    /// [`Error::Credentials`] when account or key is missing.
    pub fn from_lookup(container: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let lookup = Lookup(&lookup);
        let account = lookup.any(&["AZURE_STORAGE_ACCOUNT_NAME"]);
        let key = lookup.any(&["AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY"]);
        let (Some(account), Some(key)) = (account, key) else {
            return Err(Error::Credentials {
                store: format!("az://{container}"),
                what: "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
            });
        };
        let mut settings = Self::new(container, &account, &key);
        settings.endpoint = lookup.any(&["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"]);
        Ok(settings)
    }

    /// The URL of the account when it is not the public cloud's. Plain `http` is taken for loopback
    /// addresses only.
    #[must_use]
    pub fn endpoint(mut self, url: &str) -> Self {
        self.endpoint = Some(url.into());
        self
    }
}

impl ObjectBlobs {
    /// A bucket of S3 or of a store that speaks its protocol. Nothing is asked of the network yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a prefix, endpoint or bucket name that does not parse.
    pub fn s3(settings: S3Settings, prefix: &str) -> Result<Self> {
        let description = described("s3", &settings.bucket, prefix);
        let client = client(&description, settings.endpoint.as_deref())?;
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&settings.bucket)
            .with_region(&settings.region)
            .with_access_key_id(&settings.access_key_id)
            .with_secret_access_key(&settings.secret_access_key.0)
            .with_disable_bulk_delete(true)
            .with_retry(retry())
            .with_client_options(client);
        if let Some(token) = &settings.session_token {
            builder = builder.with_token(&token.0);
        }
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let once = RetryConfig {
            max_retries: 0,
            ..retry()
        };
        let bulk = builder
            .clone()
            .with_disable_bulk_delete(false)
            .with_retry(once)
            .build();
        let blobs = opened(builder.build(), prefix, description)?;
        let bulk = bulk
            .ok()
            .map(|client| Arc::new(Bulk::new(Arc::new(client))));
        Ok(Self { bulk, ..blobs })
    }

    /// [`ObjectBlobs::s3`] with [`S3Settings::from_lookup`] over the process's environment.
    ///
    /// # Errors
    /// Those of the two.
    pub fn s3_from_env(bucket: &str, prefix: &str) -> Result<Self> {
        Self::s3(S3Settings::from_lookup(bucket, environment)?, prefix)
    }

    /// A bucket of Google Cloud Storage. Nothing is asked of the network yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a prefix, bucket name or key file that cannot be used.
    pub fn gcs(settings: GcsSettings, prefix: &str) -> Result<Self> {
        let description = described("gs", &settings.bucket, prefix);
        let builder = GoogleCloudStorageBuilder::new()
            .with_bucket_name(&settings.bucket)
            .with_retry(retry())
            .with_client_options(client(&description, None)?);
        let builder = match &settings.account {
            ServiceAccount::File(path) => builder.with_service_account_path(path),
            ServiceAccount::Key(key) => builder.with_service_account_key(&key.0),
        };
        opened(builder.build(), prefix, description)
    }

    /// [`ObjectBlobs::gcs`] with [`GcsSettings::from_lookup`] over the process's environment.
    ///
    /// # Errors
    /// Those of the two.
    pub fn gcs_from_env(bucket: &str, prefix: &str) -> Result<Self> {
        Self::gcs(GcsSettings::from_lookup(bucket, environment)?, prefix)
    }

    /// A container of Azure Blob Storage. Nothing is asked of the network yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a prefix, endpoint, container name or key that cannot be used.
    pub fn azure(settings: AzureSettings, prefix: &str) -> Result<Self> {
        let description = described("az", &settings.container, prefix);
        let client = client(&description, settings.endpoint.as_deref())?;
        let mut builder = MicrosoftAzureBuilder::new()
            .with_container_name(&settings.container)
            .with_account(&settings.account)
            .with_access_key(&settings.access_key.0)
            .with_retry(retry())
            .with_client_options(client);
        if let Some(endpoint) = settings.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        opened(builder.build(), prefix, description)
    }

    /// [`ObjectBlobs::azure`] with [`AzureSettings::from_lookup`] over the process's environment.
    ///
    /// # Errors
    /// Those of the two.
    pub fn azure_from_env(container: &str, prefix: &str) -> Result<Self> {
        Self::azure(AzureSettings::from_lookup(container, environment)?, prefix)
    }
}

fn described(scheme: &str, bucket: &str, prefix: &str) -> String {
    match prefix.trim_matches('/') {
        "" => format!("{scheme}://{bucket}"),
        prefix => format!("{scheme}://{bucket}/{prefix}"),
    }
}

fn opened<S: ObjectStore>(
    built: object_store::Result<S>,
    prefix: &str,
    description: String,
) -> Result<ObjectBlobs> {
    match built {
        Ok(store) => {
            let limited = LimitStore::new(store, MAX_REQUESTS);
            let end = description.len() - prefix.trim_matches('/').len();
            let bucket = description[..end].trim_end_matches('/').into();
            let blobs = ObjectBlobs::new(Arc::new(limited), prefix, description)?;
            Ok(ObjectBlobs {
                bucket: Some(bucket),
                ..blobs
            })
        }
        // The reason is left out when it could quote a key.
        Err(_) => Err(Error::Invalid {
            name: description,
            what:
                "the settings do not describe a bucket; check its name, the endpoint and the form \
                   of the credentials"
                    .into(),
        }),
    }
}

fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: FIRST_BACKOFF,
            max_backoff: MAX_BACKOFF,
            base: 2.0,
        },
        max_retries: MAX_RETRIES,
        retry_timeout: RETRY_LIMIT,
    }
}

/// Client options for an endpoint (`None`: the cloud's own).
fn client(description: &str, endpoint: Option<&str>) -> Result<ClientOptions> {
    let options = ClientOptions::new()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_timeout(REQUEST_TIMEOUT);
    // The HTTP client takes its cryptography from the process; an application's own choice stays.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let Some(endpoint) = endpoint else {
        return Ok(options);
    };
    let url = reqwest::Url::parse(endpoint).map_err(|error| Error::Invalid {
        name: description.into(),
        what: format!("the endpoint is not a URL ({error}); it looks like https://host:port"),
    })?;
    match url.scheme() {
        "https" => Ok(options),
        "http" if is_loopback(&url) => Ok(options
            .with_allow_http(true)
            .with_no_system_certificates(true)),
        _ => Err(Error::Invalid {
            name: description.into(),
            what: "the endpoint must be https; plain http is for loopback addresses only".into(),
        }),
    }
}

fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: fn(&str) -> Option<String> = |_| None;

    #[test]
    fn missing_credentials_are_refused_before_any_request() {
        let errors = [
            S3Settings::from_lookup("b", NOTHING).map(|_| ()),
            GcsSettings::from_lookup("b", NOTHING).map(|_| ()),
            AzureSettings::from_lookup("b", NOTHING).map(|_| ()),
        ];
        for error in errors {
            assert!(matches!(error, Err(Error::Credentials { .. })), "{error:?}");
        }
        let half = S3Settings::from_lookup("b", |name| {
            (name == "AWS_ACCESS_KEY_ID").then(|| "id".to_string())
        });
        assert!(matches!(half, Err(Error::Credentials { .. })), "{half:?}");
    }

    #[test]
    fn plain_http_is_for_loopback_only() {
        for (endpoint, good) in [
            ("http://127.0.0.1:9000", true),
            ("http://[::1]:9000", true),
            ("http://localhost", true),
            ("https://s3.example.com", true),
            ("http://s3.example.com", false),
            ("http://127.0.0.1.example.com", false),
            ("ftp://127.0.0.1", false),
            ("not a url", false),
        ] {
            let opened = ObjectBlobs::s3(
                S3Settings::new("bucket", "id", "secret").endpoint(endpoint),
                "",
            );
            assert_eq!(opened.is_ok(), good, "{endpoint}: {opened:?}");
            if let Err(error) = opened {
                assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
            }
        }
    }

    #[test]
    fn no_secret_shows_in_debug_output() {
        let settings = S3Settings::new("bucket", "id", "topsecret").session_token("topsecret");
        let azure = AzureSettings::new("c", "a", "dG9wc2VjcmV0");
        let text = format!(
            "{settings:?} {azure:?} {:?}",
            ObjectBlobs::s3(settings.clone(), "p")
        );
        assert!(
            !text.contains("topsecret") && !text.contains("dG9wc2VjcmV0"),
            "{text}"
        );
    }

    #[test]
    fn a_connection_with_tls_can_be_prepared() {
        assert!(ObjectBlobs::s3(S3Settings::new("bucket", "id", "secret"), "a/b").is_ok());
        assert!(ObjectBlobs::azure(AzureSettings::new("c", "a", "dG9wc2VjcmV0"), "").is_ok());
    }
}
