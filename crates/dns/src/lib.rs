//! Cluster names from Services and EndpointSlices, served over DNS.
