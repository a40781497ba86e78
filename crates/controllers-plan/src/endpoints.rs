//! EndpointSlices of Services.
