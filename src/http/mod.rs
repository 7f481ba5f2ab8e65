//! The HTTP API: what clients, app back ends and operators ask for outside of an open edge.
//!
//! Owns the paths, what each demands of a key, and the form of requests and answers; `docs/protocol.md` is its public
//! specification. Every answer that says no is made in `error`, every key is judged in `authenticate`, and every path
//! is listed here. What is asked for is done by the home, the node, the sessions' home and the view.

mod admin;
mod admission;
mod authenticate;
mod body;
mod browsers;
mod choice;
mod connect;
mod console;
mod dev;
mod error;
mod farewell;
mod health;
mod inbox;
mod link;
mod mesh;
mod messages;
mod nodes;
mod offer;
mod original;
mod page;
mod params;
mod sessions;
mod state;
mod tokens;
mod watch;

use actix_web::middleware::from_fn;
use actix_web::web::{ServiceConfig, delete, get, head, post, put, route, scope};

use self::error::Rejection;
use crate::model::codes::{Code, Refusal};

pub use self::state::State;

/// What a handler gives.
type Answer = Result<actix_web::HttpResponse, Rejection>;
/// What all handlers work with.
type Shared = actix_web::web::Data<State>;

/// All paths of the server's main address. The app's data must hold a [`State`] and [`crate::link::Links`].
pub fn configure(config: &mut ServiceConfig) {
    let api = scope("")
        .wrap(from_fn(browsers::guard))
        .route("/v1/connect-info", get().to(offer::give))
        .route("/v1/connect", get().to(connect::open))
        .route("/v1/inbox", get().to(inbox::fetch))
        .route("/v1/inbox", delete().to(inbox::acknowledge))
        .route("/v1/push-tokens", get().to(tokens::list))
        .route("/v1/push-tokens", put().to(tokens::add))
        .route("/v1/push-tokens", delete().to(tokens::remove))
        .route("/v1/sessions", post().to(sessions::create))
        .route("/v1/sessions/{id}", get().to(sessions::info))
        .route("/v1/sessions/{id}/join", post().to(sessions::join))
        .route("/v1/sessions/{id}/leave", post().to(sessions::leave))
        .route("/v1/sessions/{id}/reveal", post().to(sessions::reveal))
        .route("/v1/sessions/{id}/presence", get().to(sessions::presence))
        .route("/v1/messages", post().to(messages::post))
        .route("/v1/nodes/{id}", get().to(nodes::show))
        .route("/v1/nodes/{id}/disconnect", post().to(nodes::disconnect))
        .route("/v1/nodes/{id}/edges", get().to(watch::device))
        .route("/v1/link", get().to(link::open))
        .route("/v1/mesh", get().to(mesh::show))
        .route("/v1/mesh/forget", post().to(mesh::forget))
        .route("/v1/mesh/history", get().to(watch::history))
        .route("/v1/mesh/where", get().to(watch::envelope))
        .route("/v1/drain", post().to(watch::drain))
        .route("/metrics", get().to(admin::metrics))
        .route("/healthz", get().to(health::alive))
        .route("/readyz", get().to(health::ready))
        // What load balancers ask.
        .route("/healthz", head().to(health::alive))
        .route("/readyz", head().to(health::ready))
        .configure(original::configure)
        .configure(console::configure)
        .configure(dev::configure)
        .default_service(route().to(nowhere));
    config.service(api);
}

/// The one path of the operators' own address (`--metrics-bind`), which asks for no key. Needs no [`State`].
pub fn configure_metrics(config: &mut ServiceConfig) {
    config.route("/metrics", get().to(admin::page)).default_service(route().to(nowhere));
}

async fn nowhere(request: actix_web::HttpRequest) -> Answer {
    let path: String = request.path().chars().take(64).collect();
    Err(Refusal::new(Code::NotFound, format!("there is no {} {path:?} here", request.method())).into())
}
