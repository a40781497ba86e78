//! TokenReview: another service asks whose a token is.

use super::bearer;
use crate::server::Server;
use crate::status::{Outcome, bad_request};
use serde_json::{Value, json};

/// The status of a review.
pub(crate) async fn status(server: &Server, spec: &Value) -> Outcome<Value> {
    let token = spec["token"].as_str().unwrap_or("");
    if token.is_empty() {
        return Err(bad_request("token is required for TokenReview in authentication"));
    }
    let audiences = spec["audiences"].as_array().into_iter().flatten();
    let audiences: Vec<String> = audiences
        .filter_map(|audience| audience.as_str().map(str::to_owned))
        .collect();
    Ok(match bearer::authenticate(server, token, &audiences).await? {
        Ok(bearer) => json!({"authenticated": true, "user": bearer.user.info(), "audiences": bearer.audiences}),
        Err(refused) => json!({"user": {}, "error": refused.to_string()}),
    })
}
