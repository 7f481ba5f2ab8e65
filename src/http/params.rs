//! Parameters, of a query or a form: the first value of a name counts, and a blank one counts as absent (row A4).

use std::str::FromStr;

use actix_web::HttpRequest;
use actix_web::web::Query;

use super::error::Rejection;
use crate::model::ids::IdError;

/// Most parameters of one request; no path knows as many as twenty.
const MAX_PARAMS: usize = 200;

/// See the module's header.
#[derive(Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// `text` as it stands in a query or a form: `a=1&b=%20`.
    pub(super) fn parse(text: &str) -> Result<Self, Rejection> {
        if text.bytes().filter(|byte| *byte == b'&').count() >= MAX_PARAMS {
            return Err(Rejection::bad_request(format!("a request has at most {MAX_PARAMS} parameters")));
        }
        let pairs = Query::<Vec<(String, String)>>::from_query(text)
            .map_err(|error| Rejection::bad_request(format!("the parameters cannot be read: {error}")))?;
        Ok(Self(pairs.into_inner()))
    }

    /// These, then `others`: what stands here wins.
    pub(super) fn before(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    pub(super) fn demand(&self, name: &str) -> Result<&str, Rejection> {
        self.get(name).ok_or_else(|| Rejection::bad_request(format!("the parameter {name} is missing")))
    }

    pub(super) fn id<I: FromStr<Err = IdError>>(&self, name: &str) -> Result<Option<I>, Rejection> {
        self.get(name).map(str::parse).transpose().map_err(|error| Rejection::bad_id(name, &error))
    }

    pub(super) fn demand_id<I: FromStr<Err = IdError>>(&self, name: &str) -> Result<I, Rejection> {
        self.demand(name)?.parse().map_err(|error| Rejection::bad_id(name, &error))
    }

    pub(super) fn number<N: FromStr>(&self, name: &str) -> Result<Option<N>, Rejection> {
        let parsed = self.get(name).map(str::parse).transpose();
        parsed.map_err(|_| Rejection::bad_request(format!("the parameter {name} must be a whole number in its range")))
    }

    /// On with any value but `0`, `false`, `False`.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !matches!(value, "0" | "false" | "False"))
    }
}

/// The id that stands in the path, where the pattern has `{id}`.
pub(super) fn id_in_path<I: FromStr<Err = IdError>>(request: &HttpRequest) -> Result<I, Rejection> {
    let id = request.match_info().get("id").unwrap_or_default();
    id.parse().map_err(|error| Rejection::bad_id("the id in the path", &error))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::ids::NodeId;
    use crate::model::mangled::mangled;

    proptest! {
        #[test]
        fn any_bytes_are_parameters_or_refused(bytes in mangled(&["id=alice&n=7&flag=1&x=%20%ff+%2", "a=1&a=2&&=&id"])) {
            if let Ok(params) = Params::parse(&String::from_utf8_lossy(&bytes)) {
                let (id, number) = (params.id::<NodeId>("id"), params.number::<u64>("n"));
                prop_assert!(id.is_ok() || params.get("id").is_some());
                prop_assert!(number.is_ok() || params.get("n").is_some());
                prop_assert!(!params.flag("flag") || params.get("flag").is_some());
            }
        }
    }

    fn params(text: &str) -> Params {
        Params::parse(text).unwrap()
    }

    #[test]
    fn the_first_that_is_not_blank_counts() {
        let query = params("a=&a=1&a=2&b=x%20y+z&c");
        assert_eq!((query.get("a"), query.get("b"), query.get("c")), (Some("1"), Some("x y z"), None));
        let both = params("a=body").before(query);
        assert_eq!((both.get("a"), both.get("b")), (Some("body"), Some("x y z")));
    }

    #[test]
    fn flags_are_on_with_any_other_value() {
        let query = params("a=1&b=0&c=false&d=False&e=True&f=");
        let on: Vec<bool> = ["a", "b", "c", "d", "e", "f", "g"].map(|name| query.flag(name)).into();
        assert_eq!(on, [true, false, false, false, true, false, false]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_name() {
        let query = params("id=a%20b&n=x&nul=%00&utf=%ff");
        for message in [
            query.id::<NodeId>("id").unwrap_err().to_string(),
            query.number::<u64>("n").unwrap_err().to_string(),
            query.id::<NodeId>("nul").unwrap_err().to_string(),
            query.id::<NodeId>("utf").unwrap_err().to_string(),
            query.demand("missing").unwrap_err().to_string(),
        ] {
            assert!(["id", "n", "nul", "utf", "missing"].iter().any(|name| message.contains(name)), "{message}");
        }
        assert!(Params::parse(&"a=1&".repeat(3000)).is_err());
    }
}
