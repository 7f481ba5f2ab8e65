//! The server's own pages: files that are part of the program, and what a browser may do with them.

use actix_web::HttpResponse;
use actix_web::http::header::{self, HeaderValue};

/// Nothing from elsewhere, nothing inline; requests to the server that has served the page, and to nobody else.
pub(super) const CLOSED: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
/// As [`CLOSED`], and sockets to whatever server of the mesh an offer names.
pub(super) const WITH_SOCKETS: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' ws: wss:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// One file of a page.
pub(super) struct File {
    pub(super) path: &'static str,
    pub(super) sort: &'static str,
    pub(super) text: &'static str,
}

pub(super) const HTML: &str = "text/html; charset=utf-8";
pub(super) const SCRIPT: &str = "text/javascript; charset=utf-8";
pub(super) const STYLE: &str = "text/css; charset=utf-8";

impl File {
    pub(super) fn answer(&self, policy: HeaderValue) -> HttpResponse {
        HttpResponse::Ok()
            .insert_header((header::CONTENT_TYPE, self.sort))
            .insert_header((header::CONTENT_SECURITY_POLICY, policy))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .insert_header((header::REFERRER_POLICY, "no-referrer"))
            // Of the program that runs, which may be another one next time.
            .insert_header((header::CACHE_CONTROL, "no-cache"))
            .body(self.text)
    }
}
