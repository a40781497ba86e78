//! A proxy between two sessions.

use crate::session::{ClientSession, Input, Output, ServerSession};
use crate::status;
use std::pin::pin;

/// Joins the two ends until the command has ended or one end is lost.
///
/// Input, its end, resizes and output go across with back-pressure; the result of `client` becomes that of `server`.
/// If the server's peer goes away, the client's connection is dropped, too.
pub async fn pipe(mut server: ServerSession, mut client: ClientSession) {
    let gone = server.gone();
    let (stdin, to_stdin) = (server.stdin.take(), client.stdin.take());
    let (resize, to_resize) = (server.resize.take(), client.resize.take());
    let outputs = {
        let stdout = copy(client.stdout.take(), server.stdout.take());
        let stderr = copy(client.stderr.take(), server.stderr.take());
        async { tokio::join!(stdout, stderr) }
    };
    let inputs = async {
        tokio::join!(copy(stdin, to_stdin), async {
            let (Some(mut resize), Some(to_resize)) = (resize, to_resize) else {
                return;
            };
            while let Some(size) = resize.recv().await {
                if to_resize.send(size).await.is_err() {
                    return;
                }
            }
        })
    };
    let result = async { tokio::join!(client.status(), outputs).0 };
    let (mut inputs, mut result) = (pin!(inputs), pin!(result));
    let mut inputs_ended = false;
    let result = loop {
        tokio::select! {
            result = &mut result => break result,
            _ = &mut inputs, if !inputs_ended => inputs_ended = true,
            () = gone.cancelled() => return,
        }
    };
    let status = result.unwrap_or_else(|error| {
        tracing::debug!(%error, "proxied command ended without a result");
        status::internal_error(&error.to_string())
    });
    server.finish(status).await;
}

async fn copy(from: Option<Input>, to: Option<Output>) {
    let Some(mut from) = from else { return };
    while let Some(bytes) = from.recv().await {
        let Some(to) = &to else { continue };
        if to.send(bytes).await.is_err() {
            return;
        }
    }
}
