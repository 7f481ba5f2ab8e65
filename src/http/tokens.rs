//! Push tokens: where a device can be woken.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as WordError;
use serde_json::value::RawValue;

use super::authenticate::{Demand, with_params};
use super::error::Rejection;
use super::params::Params;
use super::{Answer, Shared, body};
use crate::home::TokenChange;
use crate::push::{Provider, PushToken};

/// `PUT /v1/push-tokens`.
pub(super) async fn add(state: Shared, request: HttpRequest, payload: web::Payload) -> Answer {
    change(state, request, payload, TokenChange::Add).await
}

/// `DELETE /v1/push-tokens`.
pub(super) async fn remove(state: Shared, request: HttpRequest, payload: web::Payload) -> Answer {
    change(state, request, payload, TokenChange::Remove).await
}

async fn change(
    state: Shared,
    request: HttpRequest,
    payload: web::Payload,
    what: impl FnOnce(PushToken) -> TokenChange,
) -> Answer {
    let params = Params::parse(request.query_string())?;
    let identity = with_params(&state, &request, &params, Demand::Key).await?;
    let body = body::read(&request, payload, body::SMALL).await?;
    let token = if body.trim_ascii().is_empty() { of_params(&params)? } else { of_body(&body)? };
    token.check().map_err(|error| Rejection::bad_request(error.to_string()))?;
    state.site.home.change_tokens(identity.node, what(token)).await?;
    Ok(HttpResponse::Ok().json(serde_json::json!({"status": "ok"})))
}

#[derive(Deserialize)]
struct Body<'a> {
    provider: String,
    /// A string; for Web Push also the subscription itself.
    #[serde(borrow)]
    token: &'a RawValue,
}

fn of_body(body: &[u8]) -> Result<PushToken, Rejection> {
    let Body { provider, token } = body::json(body)?;
    let token = match token.get().as_bytes().first() {
        Some(b'{') => token.get().to_owned(),
        // Its words would show the token.
        _ => serde_json::from_str(token.get()).map_err(|_| Rejection::bad_request("token must be a string"))?,
    };
    Ok(PushToken { provider: named(&provider)?, token })
}

fn of_params(params: &Params) -> Result<PushToken, Rejection> {
    Ok(PushToken { provider: named(params.demand("provider")?)?, token: params.demand("token")?.to_owned() })
}

fn named(word: &str) -> Result<Provider, Rejection> {
    Provider::deserialize(word.into_deserializer())
        .map_err(|_: WordError| Rejection::bad_request("provider is one of fcm, apns, webpush, webhook"))
}

/// `GET /v1/push-tokens`: which providers the device has tokens of, and the key that a browser subscribes with.
pub(super) async fn list(state: Shared, request: HttpRequest) -> Answer {
    let params = Params::parse(request.query_string())?;
    let identity = with_params(&state, &request, &params, Demand::Key).await?;
    let profile = state.site.home.profile(identity.node).await?;
    let providers = profile.map(|profile| profile.providers).unwrap_or_default();
    let vapid_public_key = state.push.vapid_public_key();
    Ok(HttpResponse::Ok().json(serde_json::json!({"providers": providers, "vapid_public_key": vapid_public_key})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_string_or_a_subscription() {
        let token = of_body(br#"{"provider":"fcm","token":"a\u0062c"}"#).unwrap();
        assert_eq!((token.provider, token.token.as_str()), (Provider::Fcm, "abc"));
        let token = of_body(br#"{"provider":"webpush","token":{"endpoint": "x"}}"#).unwrap();
        assert_eq!((token.provider, token.token.as_str()), (Provider::Webpush, r#"{"endpoint": "x"}"#));
        let token = of_params(&Params::parse("provider=apns&token=ab").unwrap()).unwrap();
        assert_eq!((token.provider, token.token.as_str()), (Provider::Apns, "ab"));
        for bad in [r#"{"provider":"pigeon","token":"x"}"#, r#"{"provider":"fcm"}"#, r#"{"token":"x"}"#] {
            assert!(of_body(bad.as_bytes()).is_err(), "{bad}");
        }
        let refused = of_body(br#"{"provider":"fcm","token":7654321}"#).unwrap_err();
        assert!(!refused.to_string().contains("7654321"), "{refused}");
    }
}
