//! What every caller of a driver needs: a call with an end, and an error in the words that people know.

use std::time::Duration;
use tonic::{Request, Status};

/// A call that ends after this time, whatever the driver does.
pub fn timed<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

/// A driver's refusal as Kubernetes' events have it: `rpc error: code = NotFound desc = no such volume`.
pub fn told(status: &Status) -> String {
    format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
}
