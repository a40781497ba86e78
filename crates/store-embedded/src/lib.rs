//! The durable store of one machine: the index of store over redb.
