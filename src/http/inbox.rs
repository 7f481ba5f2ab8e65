//! The inbox over HTTP, for apps that a push has woken: sync and acknowledge without a socket.

use actix_web::http::header::ContentType;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::authenticate::{Demand, with_params};
use super::error::Rejection;
use super::params::Params;
use super::{Answer, Shared};
use crate::model::ids::{Epoch, Seq};
use crate::model::inbox::Upto;
use crate::wire::config_request::{DEFAULT_LIMIT, Fetch, First, MAX_LIMIT, More, Page};
use crate::wire::native::with_seq;

/// `GET /v1/inbox`.
pub(super) async fn fetch(state: Shared, request: HttpRequest) -> Answer {
    let params = Params::parse(request.query_string())?;
    let identity = with_params(&state, &request, &params, Demand::Key).await?;
    let after: Option<u64> = params.number("after")?;
    let limit: u32 = params.number("limit")?.unwrap_or(DEFAULT_LIMIT);
    if limit == 0 {
        return Err(Rejection::bad_request(format!("the parameter limit is from 1 to {MAX_LIMIT}")));
    }
    let fetch = Fetch {
        from_seq: after.map(|after| Seq(after.saturating_add(1))),
        to_seq: None,
        after: None,
        before: None,
        first: if params.flag("newest_first") { First::Newest } else { First::Oldest },
        limit: limit.min(MAX_LIMIT),
    };
    let page = state.site.home.fetch(identity.node, fetch).await?;
    Ok(HttpResponse::Ok().content_type(ContentType::json()).body(json(&page)))
}

#[derive(Serialize)]
struct Rest {
    from_seq: Option<Seq>,
    to_seq: Option<Seq>,
    more: bool,
    epoch: Epoch,
    dropped: u64,
}

/// The messages go out byte for byte as they are stored, so they are copied, never parsed.
fn json(page: &Page) -> Vec<u8> {
    let seqs = || page.messages.iter().map(|(seq, _)| *seq);
    let rest = Rest {
        from_seq: seqs().min(),
        to_seq: seqs().max(),
        more: page.more == More::Yes,
        epoch: page.epoch,
        dropped: page.dropped,
    };
    let mut json = br#"{"messages":["#.to_vec();
    for (index, (seq, text)) in page.messages.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        json.extend_from_slice(&with_seq(text, *seq).text());
    }
    json.extend_from_slice(b"],");
    // Numbers always serialise; the brace that opens the object is already there.
    json.extend_from_slice(serde_json::to_vec(&rest).unwrap_or_default().get(1..).unwrap_or(b"}"));
    json
}

#[derive(Serialize)]
struct Acknowledged {
    acknowledged: u64,
    pending: u64,
}

/// `DELETE /v1/inbox`.
pub(super) async fn acknowledge(state: Shared, request: HttpRequest) -> Answer {
    let params = Params::parse(request.query_string())?;
    let identity = with_params(&state, &request, &params, Demand::Key).await?;
    params.demand("to")?;
    let seq = Seq(params.number("to")?.unwrap_or_default());
    let upto = Upto { seq, epoch: params.number("epoch")?.map(Epoch) };
    let trimmed = state.site.home.trim(identity.node.clone(), upto).await?;
    if !upto.is_of(trimmed.epoch) {
        return Err(trimmed.refusal().into());
    }
    // What is acknowledged here need not be sent on an edge any more.
    if let Some(device) = state.site.view.devices.get(identity.node.as_str()) {
        state.site.view.on(&device, |lane, now, out| lane.ack_to(seq, now, out));
    }
    if trimmed.pending == 0 {
        state.push.emptied(identity.node);
    }
    Ok(HttpResponse::Ok().json(Acknowledged { acknowledged: trimmed.gone, pending: trimmed.pending }))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn page(messages: &[(u64, &'static str)], more: More) -> String {
        let messages = messages.iter().map(|(seq, text)| (Seq(*seq), Bytes::from_static(text.as_bytes()))).collect();
        String::from_utf8(json(&Page { messages, more, epoch: Epoch(7), dropped: 2 })).unwrap()
    }

    #[test]
    fn a_page_is_the_json_of_the_specification() {
        assert_eq!(
            page(&[(5, r#"{"payload":1.10}"#), (4, "{}")], More::Yes),
            r#"{"messages":[{"seq":5,"payload":1.10},{"seq":4}],"from_seq":4,"to_seq":5,"more":true,"epoch":7,"dropped":2}"#
        );
        assert_eq!(
            page(&[], More::No),
            r#"{"messages":[],"from_seq":null,"to_seq":null,"more":false,"epoch":7,"dropped":2}"#
        );
    }
}
