//! The server's own pages: files that are part of the program, and what a browser may do with them.

use actix_web::HttpResponse;
use actix_web::http::header;

/// Nothing from elsewhere, nothing inline; requests to the server that has served the page, and to nobody else. Whom a page
/// may talk to besides is appended.
pub(super) const CLOSED: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src 'self'";

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
    pub(super) fn answer(&self, policy: &str) -> HttpResponse {
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
