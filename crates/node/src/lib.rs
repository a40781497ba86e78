//! The node agent: runs pods through CRI as a kubelet does.
