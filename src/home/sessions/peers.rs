//! How sessions' homes reach each other.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use actix::prelude::*;
use serde_json::value::RawValue;

use super::words::{Request, Response};
use super::{Asked, SessionHome};
use crate::home::remote::{Remote, Reply, Sessions};
use crate::model::ids::NodeId;

/// An answer on its way.
pub(super) type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;

/// The other servers, as the home of the sessions asks them.
pub(super) trait Peers: Send + Sync {
    /// [`Response::Unavailable`] when nobody answers within a few seconds.
    fn ask(&self, server: &NodeId, request: Request) -> Answer;
}

/// Over the mesh.
pub(super) struct OverMesh(pub(super) Arc<Remote>);

impl Peers for OverMesh {
    fn ask(&self, server: &NodeId, request: Request) -> Answer {
        let (remote, server) = (self.0.clone(), server.clone());
        Box::pin(async move {
            // Our own words are plain enums of numbers and strings, which always serialise.
            let Ok(question) = serde_json::value::to_raw_value(&request) else { return Response::Unavailable };
            match remote.ask_session(&server, question).await {
                Ok(answer) => serde_json::from_str(answer.get()).unwrap_or_else(|error| {
                    log::error!("server {server} answers what cannot be read: {error}");
                    Response::Unavailable
                }),
                Err(_) => Response::Unavailable,
            }
        })
    }
}

/// Where other servers' questions come in.
pub(super) struct FromMesh(pub(super) Addr<SessionHome>);

impl Sessions for FromMesh {
    fn asked(&self, from: &NodeId, question: Box<RawValue>, reply: Reply) {
        let request: Request = match serde_json::from_str(question.get()) {
            Ok(request) => request,
            Err(error) => return log::error!("server {from} asks what cannot be read: {error}"),
        };
        // Whoever asks has a bounded number of questions open, which is what bounds these.
        self.0.do_send(Asked { from: from.clone(), request, reply: Box::new(move |response| tell(reply, &response)) });
    }
}

fn tell(reply: Reply, response: &Response) {
    // Dropped without an answer, it says that there is none.
    if let Ok(words) = serde_json::value::to_raw_value(response) {
        reply.session(words);
    }
}
