use crate::auth::key::Keyring;
use crate::auth::validation::ValidationKeys;
use crate::config::{Config, identity::ServerIdentity};
use crate::edge::{Newcomer, Site, handshake};
use crate::model::decide::Sender;
use crate::model::lane::Replay;
use crate::model::outbox::Acks;
use crate::model::session::Role;
use crate::view::now;
use actix_web::{HttpRequest, HttpResponse, web};
use std::sync::{Arc, OnceLock};

pub struct State {
    pub site: Arc<Site>,
    pub config: Arc<Config>,
    pub keyring: Keyring,
    pub validation: ValidationKeys,
    pub port: OnceLock<u16>,
    pub incarnation: u64,
}
impl State {
    pub fn new(site: Arc<Site>, config: Config, keyring: Keyring, identity: &ServerIdentity) -> Self {
        let validation = ValidationKeys::new(&keyring, identity.node.clone(), identity.incarnation);
        Self {
            site,
            config: Arc::new(config),
            keyring,
            validation,
            port: OnceLock::new(),
            incarnation: identity.incarnation,
        }
    }
    pub fn bound(&self, port: u16) {
        let _ = self.port.set(port);
    }
    pub fn url(&self) -> String {
        format!("http://{}", self.config.authority(*self.port.get().unwrap_or(&0)))
    }
}
#[derive(serde::Deserialize)]
struct Q {
    auth_key: Option<String>,
    inbox: Option<String>,
    ack: Option<String>,
    after: Option<u64>,
    to: Option<u64>,
    limit: Option<u32>,
}
fn key(state: &State, req: &HttpRequest, q: &Q) -> crate::auth::key::Identity {
    let bearer = req
        .headers()
        .get("authorization")
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.strip_prefix("Bearer "))
        .map(str::to_owned);
    state.keyring.verify(&q.auth_key.clone().or(bearer).unwrap(), now()).unwrap()
}
async fn info(state: web::Data<State>, req: HttpRequest, q: web::Query<Q>) -> HttpResponse {
    let id = key(&state, &req, &q);
    let pending = state.site.home.register(id.node.clone(), id.client).await.unwrap();
    let port = *state.port.get().unwrap();
    HttpResponse::Ok().json(serde_json::json!({"node_id": state.site.server, "addr": state.config.host_address, "port": port, "ws_url": format!("ws://{}/v1/connect", state.config.authority(port)),
        "validation_key": state.validation.issue(&id.node, now(), rand::random()), "pending": pending}))
}
async fn connect(state: web::Data<State>, req: HttpRequest, q: web::Query<Q>, payload: web::Payload) -> HttpResponse {
    let id = key(&state, &req, &q);
    let newcomer = Newcomer {
        sender: Sender { node: id.node, client: id.client, role: Role::Device },
        replay: if q.inbox.as_deref() == Some("auto") { Replay::Auto } else { Replay::Manual },
        acks: if q.ack.as_deref() == Some("app") { Acks::Application } else { Acks::Transport },
    };
    match handshake::open(&state.site, newcomer, &req, payload).await {
        Ok(r) => r,
        Err(e) => {
            HttpResponse::build(actix_web::http::StatusCode::from_u16(e.code.http_status()).unwrap()).body(e.message)
        }
    }
}
async fn inbox(state: web::Data<State>, req: HttpRequest, q: web::Query<Q>) -> HttpResponse {
    use crate::wire::config_request::*;
    let id = key(&state, &req, &q);
    let page = state
        .site
        .home
        .fetch(
            id.node.clone(),
            Fetch {
                from_seq: Some(crate::model::ids::Seq(q.after.unwrap_or(0) + 1)),
                to_seq: None,
                after: None,
                before: None,
                first: First::Oldest,
                limit: q.limit.unwrap_or(100),
            },
        )
        .await
        .unwrap();
    let msgs: Vec<_> = page
        .messages
        .iter()
        .map(|(s, t)| {
            let mut v: serde_json::Value = serde_json::from_slice(t).unwrap();
            v["seq"] = s.0.into();
            v
        })
        .collect();
    HttpResponse::Ok().json(serde_json::json!({"messages": msgs, "more": page.more == More::Yes}))
}
async fn trim(state: web::Data<State>, req: HttpRequest, q: web::Query<Q>) -> HttpResponse {
    let id = key(&state, &req, &q);
    state.site.home.trim(id.node, crate::model::ids::Seq(q.to.unwrap())).await.unwrap();
    HttpResponse::Ok().finish()
}
pub fn configure(cfg: &mut web::ServiceConfig) {
    cfg.route("/v1/connect-info", web::get().to(info))
        .route("/v1/connect", web::get().to(connect))
        .route("/connectV2", web::get().to(connect))
        .route("/v1/inbox", web::get().to(inbox))
        .route("/v1/inbox", web::delete().to(trim))
        .route("/metrics", web::get().to(|| async { crate::metrics::page().0 }));
}
pub fn configure_metrics(cfg: &mut web::ServiceConfig) {
    cfg.route("/metrics", web::get().to(|| async { crate::metrics::page().0 }));
}
