//! The mesh as this server knows it, for operators; and forgetting a server.

use std::collections::HashMap;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::authenticate::{Demand, with_params};
use super::error::Rejection;
use super::params::Params;
use super::{Answer, Shared};
use crate::model::codes::{Code, Refusal};
use crate::model::ids::{Incarnation, NodeId};
use crate::model::placement::{Pin, Placement};
use crate::model::topology::{Scheme, Standing};
use crate::node::{Forget, LinkSeen, ServerSeen, Survey, Surveyed};

/// Ids whose homes are looked up to see how evenly they are spread.
const SAMPLE: usize = 1000;

#[derive(Serialize)]
struct Mesh<'a> {
    /// Who tells this.
    node_id: &'a NodeId,
    servers: Vec<Server<'a>>,
    members: &'a [NodeId],
    forgotten: &'a [NodeId],
    /// Of this server.
    pins: &'a [Pin],
    /// Servers that it has met and that have other pins.
    other_pins: &'a [NodeId],
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<Path<'a>>,
}

/// What is absent of a server is not known: it has departed.
#[derive(Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "these are the fields of a JSON object")]
struct Server<'a> {
    node_id: &'a NodeId,
    member: bool,
    reachable: bool,
    /// `returning`, `serving`, `draining`, or `departed`; of a forgotten one `leaving` until it has given away what it
    /// keeps, and then `empty`.
    standing: &'static str,
    incarnation: Option<Incarnation>,
    addr: Option<&'a str>,
    port: Option<u16>,
    tls: bool,
    proxy_80_port: Option<&'a str>,
    region: Option<&'a str>,
    connections: u64,
    max_connections: u64,
    draining: bool,
    /// Devices that are attached there.
    attachments: usize,
    /// How often that has changed, as far as it is known here.
    attachment_number: u64,
    /// The share of all ids whose home it is.
    homes: f64,
    /// Of the way there, and the neighbour that it begins with.
    cost_us: Option<u64>,
    via: Option<&'a NodeId>,
    links: Vec<Link<'a>>,
}

#[derive(Serialize)]
struct Link<'a> {
    peer: &'a NodeId,
    cost_us: u32,
    /// `up`; or `one_sided`: the other end does not say so, and it does not count.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unacknowledged_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_offset_ms: Option<i64>,
}

#[derive(Serialize)]
struct Path<'a> {
    from: &'a NodeId,
    to: &'a NodeId,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    without: &'a [(NodeId, NodeId)],
    /// `null`: no way leads there.
    cost_us: Option<u64>,
    /// With both ends.
    servers: Option<Vec<Hop<'a>>>,
}

#[derive(Serialize)]
struct Hop<'a> {
    node_id: &'a NodeId,
    /// From the start up to here.
    cost_us: u64,
}

/// `GET /v1/mesh`, with `path=A,B` and `without=X,Y` (several links: `X,Y,V,W`) if a way is asked for.
pub(super) async fn show(state: Shared, request: HttpRequest) -> Answer {
    let params = Params::parse(request.query_string())?;
    with_params(&state, &request, &params, Demand::Admin).await?;
    let ends = pairs(&params, "path")?;
    let without = pairs(&params, "without")?;
    if ends.len() > 1 {
        return Err(Rejection::bad_request("path is the way from one server to one other: path=A,B"));
    }
    let path = ends.into_iter().next();
    let known = state.site.node.send(Survey { path: path.clone(), without: without.clone() }).await?;
    if let Some((from, to)) = &path {
        for end in [from, to] {
            if known.servers.iter().all(|seen| seen.server != *end) {
                return Err(Refusal::new(Code::NotFound, format!("there is no server {end}")).into());
            }
        }
    }
    let placement = state.site.view.mesh.placement();
    let homes = web::block(move || homes(&placement)).await.unwrap_or_default();
    let path = path.as_ref().map(|(from, to)| Path {
        from,
        to,
        without: &without,
        cost_us: known.path.as_ref().and_then(|steps| steps.last()).map(|step| step.cost),
        servers: known
            .path
            .as_ref()
            .map(|steps| steps.iter().map(|step| Hop { node_id: &step.server, cost_us: step.cost }).collect()),
    });
    let servers = known.servers.iter().map(|seen| server(seen, &known, &homes)).collect();
    Ok(HttpResponse::Ok().json(Mesh {
        node_id: &state.site.server,
        servers,
        members: &known.members,
        forgotten: &known.forgotten,
        pins: &state.config.pins,
        other_pins: &known.other_pins,
        path,
    }))
}

fn server<'a>(seen: &'a ServerSeen, known: &Surveyed, homes: &HashMap<NodeId, usize>) -> Server<'a> {
    let about = seen.said.as_ref().map(|said| &said.about);
    let address = about.map(|about| &about.address);
    let load = about.map(|about| about.load).unwrap_or_default();
    let standing = about.map(|about| about.standing);
    Server {
        node_id: &seen.server,
        member: known.members.contains(&seen.server),
        reachable: seen.cost.is_some(),
        standing: match standing {
            None => "departed",
            Some(Standing::Returning) => "returning",
            Some(Standing::Serving) => "serving",
            Some(Standing::Draining) => "draining",
            Some(Standing::Leaving) => "leaving",
            Some(Standing::Empty) => "empty",
        },
        incarnation: seen.said.as_ref().map(|said| said.incarnation),
        addr: address.map(|address| address.host.as_str()),
        port: address.map(|address| address.port),
        tls: address.is_some_and(|address| address.scheme == Scheme::Tls),
        proxy_80_port: address.and_then(|address| address.proxy_80_port.as_deref()),
        region: address.and_then(|address| address.region.as_deref()),
        connections: load.connections,
        max_connections: load.max_connections,
        draining: standing == Some(Standing::Draining),
        attachments: seen.attachments,
        attachment_number: seen.attachment_number,
        homes: homes.get(&seen.server).copied().unwrap_or_default() as f64 / SAMPLE as f64,
        cost_us: seen.cost,
        via: seen.via.as_ref(),
        links: seen.said.iter().flat_map(|said| said.links.iter().map(link)).collect(),
    }
}

fn link(seen: &LinkSeen) -> Link<'_> {
    Link {
        peer: &seen.peer,
        cost_us: seen.cost,
        state: if seen.mutual { "up" } else { "one_sided" },
        queue_bytes: seen.queue_bytes,
        unacknowledged_bytes: seen.unacknowledged_bytes,
        clock_offset_ms: seen.clock_offset_ms,
    }
}

/// How many of a sample of ids are at home at each server.
fn homes(placement: &Placement) -> HashMap<NodeId, usize> {
    let mut homes = HashMap::new();
    for number in 0..SAMPLE {
        *homes.entry(placement.home(&format!("sample-{number}")).clone()).or_default() += 1;
    }
    homes
}

/// Ids with commas between them, two by two.
fn pairs(params: &Params, name: &str) -> Result<Vec<(NodeId, NodeId)>, Rejection> {
    let Some(text) = params.get(name) else { return Ok(Vec::new()) };
    let ids: Result<Vec<NodeId>, _> = text.split(',').map(str::parse).collect();
    let ids = ids.map_err(|error| Rejection::bad_id(name, &error))?;
    let (pairs, rest) = ids.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Rejection::bad_request(format!("{name} names servers two by two: {name}=A,B")));
    }
    Ok(pairs.iter().map(|[one, other]| (one.clone(), other.clone())).collect())
}

/// `POST /v1/mesh/forget?server=ID`. One that is reachable gives away what it keeps from now on.
pub(super) async fn forget(state: Shared, request: HttpRequest) -> Answer {
    let params = Params::parse(request.query_string())?;
    let identity = with_params(&state, &request, &params, Demand::Admin).await?;
    let server: NodeId = params.demand_id("server")?;
    log::info!("{} has server {server} forgotten", identity.node);
    state.site.node.send(Forget(server.clone())).await??;
    let lives = server == state.site.server || state.site.view.mesh.is_reachable(&server);
    Ok(HttpResponse::Ok().json(serde_json::json!({"forgotten": server, "reachable": lives})))
}
