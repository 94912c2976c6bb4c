//! Requests, with what a registry asks for before it answers them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, HOST, LOCATION, USER_AGENT, WWW_AUTHENTICATE,
};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use rustls::ClientConfig;

use crate::auth::{self, Challenge};
use crate::body::Blob;
use crate::dial::{self, Connected, Sent};
use crate::{Error, Reference};

/// Largest manifest in bytes: a bundle's has two kilobytes.
pub const LARGEST_MANIFEST: u64 = 64 << 10;
/// Largest answer of a token server, and of what is read of a refusal.
const LARGEST_ANSWER: u64 = 64 << 10;
/// A blob is fetched from elsewhere after at most so many turns.
const MOST_TURNS: usize = 3;
/// The kinds of manifests that are understood.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Longest words of a registry that are passed on.
const LONGEST_SAID: usize = 200;

/// How registries are reached.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// File of CA certificates that replaces the system's; with it loopback speaks TLS, too.
    pub ca: Option<PathBuf>,
    /// File of credentials, a docker `config.json`.
    pub auth: Option<PathBuf>,
    /// Registries (`host` or `host:port`) that are spoken to without TLS.
    pub plain_http: Vec<String>,
    /// Times and sizes.
    pub limits: Limits,
}

/// What a registry may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For TCP and TLS together.
    pub connect: Duration,
    /// From a request to the head of its answer.
    pub answer: Duration,
    /// Between two pieces of a body; and the stretch for `least`.
    pub idle: Duration,
    /// Bytes that have to come in each `idle`.
    pub least: u64,
    /// From a blob's last byte that was sent to the answer: much of it may still be on the way, and the registry reads
    /// all of it again.
    pub store: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            idle: Duration::from_secs(20),
            least: 64 << 10,
            store: Duration::from_mins(5),
        }
    }
}

/// A client. It remembers what it was let in with, and is meant for one piece of work: files are read anew by the
/// next one.
#[derive(Debug)]
pub struct Client {
    pub(crate) options: Options,
    tls: OnceLock<Arc<ClientConfig>>,
    /// The repository that it was let in to, and the header's value.
    authorization: Mutex<Option<(Reference, HeaderValue)>>,
}

/// An answer whose connection is still open.
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    pub(crate) connection: Connected,
    pub(crate) from: Uri,
}

impl Client {
    /// A client; nothing is read yet.
    pub fn new(options: Options) -> Self {
        Self { options, tls: OnceLock::new(), authorization: Mutex::default() }
    }

    /// A manifest by its digest, as it came.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn manifest(&self, from: &Reference, digest: &str) -> Result<Vec<u8>, Error> {
        let what = format!("manifest {digest} of {from}");
        let answer = self.get(from, &format!("manifests/{digest}"), &what, MANIFEST).await?;
        let size = match length(&answer.response, &what)? {
            Some(size) if size > LARGEST_MANIFEST => {
                return Err(Error::TooLong { what, limit: LARGEST_MANIFEST });
            }
            Some(size) => size,
            None => return Err(Error::Wrong { what, why: "it does not say how long it is".into() }),
        };
        let body = answer.response.into_body();
        Blob::new(body, answer.connection, what, size, &self.options.limits).whole().await
    }

    /// A blob by its digest and size.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn blob(&self, from: &Reference, digest: &str, size: u64) -> Result<Blob, Error> {
        let what = format!("blob {digest} of {from}");
        let mut answer = self.get(from, &format!("blobs/{digest}"), &what, "*/*").await?;
        let mut turns = 0;
        while answer.response.status().is_redirection() {
            let to = self.turn(&answer, &what)?;
            turns += 1;
            if turns > MOST_TURNS {
                let to = to.to_string();
                return Err(Error::Redirect { what, to, why: "it is led around too often" });
            }
            // Whoever keeps the bytes gets no credentials: the address itself is what lets one in there.
            answer =
                self.send(Method::GET, &to, &what, None, whole(Bytes::new()), &[(ACCEPT, "*/*")]).await?;
        }
        let answer = self.expect(answer, &what, StatusCode::OK).await?;
        match length(&answer.response, &what)? {
            Some(found) if found > size => return Err(Error::TooLong { what, limit: size }),
            Some(found) if found < size => return Err(Error::Truncated { what, found, wanted: size }),
            _ => {}
        }
        Ok(Blob::new(answer.response.into_body(), answer.connection, what, size, &self.options.limits))
    }

    /// Where a redirection leads; never from TLS to none, and never from elsewhere into this machine.
    fn turn(&self, answer: &Answer, what: &str) -> Result<Uri, Error> {
        let location = answer.response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| wrong(what, "it points elsewhere without saying where"))?;
        self.elsewhere(&answer.from, location, what)
    }

    /// An address that a registry gives, absolute or on itself.
    pub(crate) fn elsewhere(&self, from: &Uri, location: &str, what: &str) -> Result<Uri, Error> {
        let refused = |why| Error::Redirect { what: what.to_owned(), to: cut(location), why };
        if location.starts_with('/') && !location.starts_with("//") {
            let base = format!("{}://{}", scheme(from), authority(from));
            return format!("{base}{location}").parse().map_err(|_| refused("that is no address"));
        }
        let to: Uri = location.parse().map_err(|_| refused("that is no address"))?;
        if to.host().is_none() || authority(&to).contains('@') {
            return Err(refused("that is no address"));
        }
        if dial::is_loopback(host(&to)) && !dial::is_loopback(host(from)) {
            return Err(refused("that is this machine itself"));
        }
        match (scheme(from), scheme(&to)) {
            (_, "https") => Ok(to),
            ("http", "http") if self.is_plain(&to) => Ok(to),
            (_, "http") => Err(refused("it is without TLS")),
            _ => Err(refused("that is no HTTP")),
        }
    }

    /// Whether a host is spoken to without TLS.
    fn is_plain(&self, address: &Uri) -> bool {
        let (host, authority) = (host(address), authority(address));
        let named = self.options.plain_http.iter().any(|plain| plain == host || plain == authority);
        named || (self.options.ca.is_none() && dial::is_loopback(host))
    }

    /// An address under a repository.
    pub(crate) fn address(&self, of: &Reference, path: &str) -> Result<Uri, Error> {
        let at = |scheme| format!("{scheme}://{}/v2/{}/{path}", of.registry(), of.repository());
        let parsed = |text: String| {
            text.parse::<Uri>().map_err(|_| wrong(&of.to_string(), "that is no address of a registry"))
        };
        let secure = parsed(at("https"))?;
        if self.is_plain(&secure) { parsed(at("http")) } else { Ok(secure) }
    }

    async fn get(&self, from: &Reference, path: &str, what: &str, accept: &str) -> Result<Answer, Error> {
        let to = self.address(from, path)?;
        let answer = self.ask(Method::GET, from, &to, what, &[(ACCEPT, accept)], Bytes::new()).await?;
        if path.starts_with("blobs/") && answer.response.status().is_redirection() {
            return Ok(answer);
        }
        self.expect(answer, what, StatusCode::OK).await
    }

    /// A request with a body that is kept for a second time: asked for credentials, it is sent once more with them.
    pub(crate) async fn ask(
        &self,
        method: Method,
        of: &Reference,
        to: &Uri,
        what: &str,
        headers: &[(http::HeaderName, &str)],
        body: Bytes,
    ) -> Result<Answer, Error> {
        let known = self.known(of);
        let first = self.send(method.clone(), to, what, known, whole(body.clone()), headers).await?;
        if first.response.status() != StatusCode::UNAUTHORIZED {
            return Ok(first);
        }
        let challenges = first.response.headers().get_all(WWW_AUTHENTICATE);
        let challenge = challenges.iter().find_map(|value| Challenge::parse(value.to_str().ok()?));
        let Some(challenge) = challenge else { return Ok(first) };
        let Some(value) = self.let_in(of, &challenge, &first.from, what).await? else { return Ok(first) };
        drop(first);
        self.send(method, to, what, Some(value), whole(body), headers).await
    }

    /// What was answered before for a repository.
    pub(crate) fn known(&self, of: &Reference) -> Option<HeaderValue> {
        let known = self.authorization.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|(to, _)| to == of).map(|(_, value)| value.clone())
    }

    /// Answers a challenge; none: there is nothing to answer it with.
    async fn let_in(
        &self,
        of: &Reference,
        challenge: &Challenge,
        from: &Uri,
        what: &str,
    ) -> Result<Option<HeaderValue>, Error> {
        let basic = match &self.options.auth {
            Some(file) => auth::basic(file, of)?,
            None => None,
        };
        let text = match challenge {
            Challenge::Basic => basic,
            Challenge::Bearer { realm, service, scope } => {
                let address = auth::token_address(realm, service.as_deref(), scope.as_deref());
                let to = self.elsewhere(from, &address, what)?;
                if basic.is_some() && scheme(from) == "http" && host(from) != host(&to) {
                    let why = "whoever is on the way to a registry without TLS could have named that host, and would get \
                               its credentials; speak TLS to it, or leave them out";
                    return Err(Error::Redirect { what: what.to_owned(), to: cut(&address), why });
                }
                let what = format!("a token for {of}");
                let basic = basic.map(|text| secret(&text, &what)).transpose()?;
                let answer = self.send(Method::GET, &to, &what, basic, whole(Bytes::new()), &[]).await?;
                let answer = self.expect(answer, &what, StatusCode::OK).await?;
                let body = read(answer, &what, LARGEST_ANSWER, &self.options.limits).await?;
                let token = auth::token(&body).ok_or_else(|| wrong(&what, "the answer holds no token"))?;
                Some(format!("Bearer {token}"))
            }
        };
        let Some(text) = text else { return Ok(None) };
        let value = secret(&text, what)?;
        let mut known = self.authorization.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some((of.clone(), value.clone()));
        Ok(Some(value))
    }

    /// One request, and its answer.
    pub(crate) async fn send(
        &self,
        method: Method,
        to: &Uri,
        what: &str,
        authorization: Option<HeaderValue>,
        body: Sent,
        headers: &[(http::HeaderName, &str)],
    ) -> Result<Answer, Error> {
        let request = request(method, to, what, authorization, body, headers)?;
        let limit = self.options.limits.answer;
        let late = async {
            tokio::time::sleep(limit).await;
            Error::TimedOut { what: what.to_owned(), limit }
        };
        self.exchange(request, to, what, late).await
    }

    /// Sends a request on a connection of its own; its answer, if that comes before it is given up.
    pub(crate) async fn exchange(
        &self,
        request: Request<Sent>,
        to: &Uri,
        what: &str,
        given_up: impl Future<Output = Error>,
    ) -> Result<Answer, Error> {
        let plain = scheme(to) == "http";
        let port = to.port_u16().unwrap_or(if plain { 80 } else { 443 });
        let tls = if plain { None } else { Some(self.tls()?) };
        let limit = self.options.limits.connect;
        let (mut sender, connection) = dial::connect(host(to), port, tls, limit).await?;
        let response = tokio::select! {
            response = sender.send_request(request) => response,
            why = given_up => return Err(why),
        };
        let response = response.map_err(|source| Error::Broken { what: what.to_owned(), source })?;
        Ok(Answer { response, connection, from: to.clone() })
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, Error> {
        if let Some(known) = self.tls.get() {
            return Ok(Arc::clone(known));
        }
        let read = dial::tls(self.options.ca.as_deref())?;
        Ok(Arc::clone(self.tls.get_or_init(|| read)))
    }

    /// The answer if it is of this status; else what the registry says.
    pub(crate) async fn expect(
        &self,
        answer: Answer,
        what: &str,
        wanted: StatusCode,
    ) -> Result<Answer, Error> {
        let status = answer.response.status();
        if status == wanted {
            return Ok(answer);
        }
        let said = read(answer, what, LARGEST_ANSWER, &self.options.limits).await.unwrap_or_default();
        let hint = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "; give credentials that may do this (--registry-auth)"
            }
            StatusCode::NOT_FOUND => "; push it there, or correct the reference",
            status if status.is_redirection() => "; redirections are followed for blobs alone",
            _ => "",
        };
        Err(Error::Refused { what: what.to_owned(), status, said: words(&said), hint })
    }
}

/// A request to one host.
pub(crate) fn request(
    method: Method,
    to: &Uri,
    what: &str,
    authorization: Option<HeaderValue>,
    body: Sent,
    headers: &[(http::HeaderName, &str)],
) -> Result<Request<Sent>, Error> {
    let path = to.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, authority(to))
        .header(USER_AGENT, concat!("liveupdate/", env!("CARGO_PKG_VERSION")));
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    if let Some(value) = authorization {
        request = request.header(AUTHORIZATION, value);
    }
    request.body(body).map_err(|_| wrong(what, "that makes no request"))
}

/// A small body, bounded and at a pace.
async fn read(answer: Answer, what: &str, most: u64, limits: &Limits) -> Result<Vec<u8>, Error> {
    let size = length(&answer.response, what)?;
    if let Some(size) = size {
        if size > most {
            return Err(Error::TooLong { what: what.to_owned(), limit: most });
        }
        let body = answer.response.into_body();
        return Blob::new(body, answer.connection, what.to_owned(), size, limits).whole().await;
    }
    // In pieces of no announced length: what came before the end of the connection is all.
    let mut blob = Blob::new(answer.response.into_body(), answer.connection, what.to_owned(), most, limits);
    let mut all = Vec::new();
    loop {
        match blob.next().await {
            Ok(Some(bytes)) => all.extend_from_slice(&bytes),
            Ok(None) | Err(Error::Truncated { .. }) => return Ok(all),
            Err(error) => return Err(error),
        }
    }
}

/// What an answer says of its length. A packed one is none that was asked for.
fn length(response: &Response<Incoming>, what: &str) -> Result<Option<u64>, Error> {
    if response.headers().contains_key(CONTENT_ENCODING) {
        return Err(wrong(what, "it comes packed (Content-Encoding), which nobody asked for"));
    }
    let Some(value) = response.headers().get(CONTENT_LENGTH) else { return Ok(None) };
    let read = value.to_str().ok().and_then(|text| text.parse().ok());
    read.map(Some).ok_or_else(|| wrong(what, "its Content-Length is no number"))
}

/// A registry's own words: `{"errors":[{"code":…,"message":…}]}`, or nothing.
fn words(body: &[u8]) -> String {
    let said: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let first = said.as_ref().and_then(|said| said.get("errors")?.get(0));
    let word = |name| first.and_then(|first| first.get(name)?.as_str());
    match word("message").or_else(|| word("code")) {
        Some(text) => format!(": {}", cut(text)),
        None => String::new(),
    }
}

/// What somebody else wrote, fit for a line of a log.
fn cut(text: &str) -> String {
    text.chars().filter(|symbol| !symbol.is_control()).take(LONGEST_SAID).collect()
}

fn secret(text: &str, what: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| wrong(what, "what lets one in there does not fit a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn wrong(what: &str, why: &str) -> Error {
    Error::Wrong { what: what.to_owned(), why: why.to_owned() }
}

/// Bytes that are here, or none.
fn whole(bytes: Bytes) -> Sent {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

fn scheme(address: &Uri) -> &str {
    address.scheme_str().unwrap_or_default()
}

fn host(address: &Uri) -> &str {
    address.host().unwrap_or_default()
}

fn authority(address: &Uri) -> &str {
    address.authority().map_or("", |authority| authority.as_str())
}
