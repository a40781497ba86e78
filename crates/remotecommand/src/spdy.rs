//! SPDY/3.1 connections.
