//! The streaming protocols of exec, attach and port-forward: websocket channels and SPDY/3.1.
