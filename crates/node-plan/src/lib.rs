//! Pure decisions of the node agent: the next step of a pod on this node.
