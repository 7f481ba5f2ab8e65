//! What browsers are told and kept from: pages of other origins, and what all answers have in common.
//!
//! A page may read an answer only where its origin is allowed, and may open no socket where it is not. Requests without
//! `Origin` come from no page and are not looked at; keys, not cookies, say who somebody is, so nothing else is at stake.
//!
//! With `--dev` the pages of this machine are allowed, so that one that was loaded from a server of a local mesh goes on with
//! the others when that server dies. What they could ask for, every program of this machine can ask for as well.

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpRequest, HttpResponse};

use super::State;
use super::dev::is_loopback;
use super::error::Rejection;
use crate::config::Mode;
use crate::config::origins::Origin;
use crate::edge::handshake::is_websocket;
use crate::model::codes::{Code, Refusal};

/// Of a request line and its headers together, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// How long a browser may remember the answer to a preflight, in seconds.
const REMEMBER: HeaderValue = HeaderValue::from_static("600");
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, DELETE");
const HEADERS: HeaderValue = HeaderValue::from_static("authorization, content-type");

/// Where a request comes from, as its browser says.
#[derive(Debug, PartialEq, Eq)]
enum Page {
    /// No page of another origin.
    Own,
    /// One that is allowed; what it is to be told of itself.
    Allowed(HeaderValue),
    Foreign,
}

impl Page {
    fn of(headers: &HeaderMap, allowed: &[Origin], mode: Mode) -> Self {
        let Some(origin) = headers.get(header::ORIGIN) else { return Self::Own };
        // More than one, or one that is no text, is of no browser.
        let single = headers.get_all(header::ORIGIN).count() == 1;
        let Some(sent) = origin.to_str().ok().filter(|_| single) else { return Self::Foreign };
        if allowed.iter().any(|known| known.allows(sent)) {
            return Self::Allowed(origin.clone());
        }
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let sent_host = sent.strip_prefix("http://").or_else(|| sent.strip_prefix("https://"));
        if sent_host.zip(host).is_some_and(|(sent, own)| sent.eq_ignore_ascii_case(own)) {
            return Self::Own;
        }
        if mode == Mode::Dev && sent_host.is_some_and(is_loopback) {
            return Self::Allowed(origin.clone());
        }
        Self::Foreign
    }
}

/// The middleware round all paths.
pub(super) async fn guard(
    state: Data<State>,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let page = Page::of(request.headers(), &state.config.allow_origins, state.config.mode);
    let (has_origin, plain) = (request.headers().contains_key(header::ORIGIN), request.request());
    let early = if head_size(plain) > MAX_HEAD {
        Some(refused(&Rejection::bad_request(format!("a request line and its headers have at most {MAX_HEAD} bytes"))))
    } else if is_preflight(plain) {
        Some(preflight(&page))
    } else if page == Page::Foreign && is_websocket(plain) {
        let message = "pages of this origin may not connect here; the operator allows them with --allow-origin";
        Some(refused(&Refusal::new(Code::Forbidden, message).into()))
    } else {
        None
    };
    let mut response = match early {
        Some(answer) => request.into_response(answer),
        None => next.call(request).await?,
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if has_origin {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    if let Page::Allowed(origin) = page {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    Ok(response)
}

fn refused(rejection: &Rejection) -> HttpResponse {
    actix_web::ResponseError::error_response(rejection)
}

fn head_size(request: &HttpRequest) -> usize {
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    let uri = request.uri().path_and_query().map_or(0, |line| line.as_str().len());
    uri + headers.sum::<usize>()
}

fn is_preflight(request: &HttpRequest) -> bool {
    let headers = request.headers();
    request.method() == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn preflight(page: &Page) -> HttpResponse {
    if *page == Page::Foreign {
        let message = "pages of this origin may not ask here; the operator allows them with --allow-origin";
        return refused(&Refusal::new(Code::Forbidden, message).into());
    }
    HttpResponse::NoContent()
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, METHODS))
        .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, REMEMBER))
        .finish()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn page(origin: Option<&'static str>, mode: Mode) -> Page {
        let mut request = TestRequest::default().insert_header((header::HOST, "Chat.example:8080"));
        if let Some(origin) = origin {
            request = request.insert_header((header::ORIGIN, origin));
        }
        Page::of(request.to_http_request().headers(), &["https://app.example.org".parse().unwrap()], mode)
    }

    #[test]
    fn who_may_come_in() {
        let app = "https://app.example.org";
        for (origin, expected) in [
            (None, Page::Own),
            (Some("http://chat.example:8080"), Page::Own),
            (Some("https://chat.example:8080"), Page::Own),
            (Some(app), Page::Allowed(HeaderValue::from_static(app))),
            (Some("http://chat.example"), Page::Foreign),
            (Some("http://app.example.org"), Page::Foreign),
            (Some("https://app.example.org.evil.example"), Page::Foreign),
            (Some("ftp://chat.example:8080"), Page::Foreign),
            (Some("null"), Page::Foreign),
            (Some(""), Page::Foreign),
        ] {
            assert_eq!(page(origin, Mode::Production), expected, "{origin:?}");
            assert_eq!(page(origin, Mode::Dev), expected, "{origin:?}");
        }
    }

    #[test]
    fn pages_of_this_machine_come_in_where_that_is_all_there_is() {
        for origin in ["http://127.0.0.1:8081", "http://localhost:3000", "https://[::1]:9"] {
            let allowed = Page::Allowed(HeaderValue::from_static(origin));
            assert_eq!(page(Some(origin), Mode::Dev), allowed, "{origin}");
            assert_eq!(page(Some(origin), Mode::Production), Page::Foreign, "{origin}");
        }
        for origin in
            ["http://localhost.example.org", "http://10.0.0.1:8081", "ftp://localhost", "http://", "localhost"]
        {
            assert_eq!(page(Some(origin), Mode::Dev), Page::Foreign, "{origin}");
        }
    }

    #[test]
    fn two_origins_are_none() {
        let app = "https://app.example.org";
        let request = TestRequest::default().append_header((header::ORIGIN, app)).append_header((header::ORIGIN, app));
        let headers = request.to_http_request();
        assert_eq!(Page::of(headers.headers(), &[app.parse().unwrap()], Mode::Production), Page::Foreign);
    }
}
