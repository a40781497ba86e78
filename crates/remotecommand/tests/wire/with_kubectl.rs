//! Real kubectl against our server. `KUBECTL` names another one than that on the PATH, such as 1.20.

use crate::serving::{self, Running};
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_secs(60);

/// Recent kubectl speaks websocket unless this is false; old ones speak SPDY whatever it is.
const WEBSOCKETS: [&str; 2] = ["true", "false"];

async fn kubectl(server: &Running, websockets: &str, args: &[&str], stdin: Option<&[u8]>) -> Option<Output> {
    let home = std::env::temp_dir();
    let program = std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".into());
    let child = Command::new(program)
        .arg(format!("--server=http://{}", server.address))
        .args(args)
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/local/bin")
        .env("HOME", home)
        .env("KUBECONFIG", "/dev/null")
        .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("there is no kubectl on this machine");
            return None;
        }
        Err(error) => panic!("kubectl cannot be started: {error}"),
    };
    let mut to = child.stdin.take().expect("it is piped");
    let stdin = stdin.unwrap_or_default().to_vec();
    let feeding = async {
        // kubectl may end without reading it.
        drop(to.write_all(&stdin).await);
        drop(to);
    };
    let running = async { tokio::join!(feeding, child.wait_with_output()).1 };
    let output = tokio::time::timeout(PATIENCE, running)
        .await
        .expect("kubectl ends")
        .expect("it can be waited for");
    println!(
        "{args:?} websockets={websockets}: {} {:?}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Some(output)
}

#[tokio::test]
async fn kubectl_gets_output_and_exit_code() {
    for websockets in WEBSOCKETS {
        let server = serving::start(None).await;
        let args = ["exec", "web-0", "--", "sh", "-c", "echo out; echo err >&2; exit 3"];
        let Some(output) = kubectl(&server, websockets, &args, None).await else {
            return;
        };
        assert_eq!(output.stdout, b"out\n");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            stderr.contains("err\n") && stderr.contains("terminated with exit code 3"),
            "{stderr}"
        );
        assert_eq!(output.status.code(), Some(3));
        let args = ["exec", "web-0", "--", "true"];
        let output = kubectl(&server, websockets, &args, None).await.unwrap();
        assert!(output.status.success());
    }
}

#[tokio::test]
async fn kubectl_sends_input_and_its_end() {
    let much: Vec<u8> = (0..500_000u32).flat_map(|i| i.to_le_bytes()).collect();
    for websockets in WEBSOCKETS {
        let server = serving::start(None).await;
        let args = ["exec", "-i", "web-0", "--", "cat"];
        let Some(output) = kubectl(&server, websockets, &args, Some(b"hello")).await else {
            return;
        };
        assert_eq!(
            (output.stdout.as_slice(), output.status.code()),
            (&b"hello"[..], Some(0))
        );
        let output = kubectl(&server, websockets, &args, Some(&much)).await.unwrap();
        assert!(output.stdout == much, "{} of {} bytes", output.stdout.len(), much.len());
    }
}

#[tokio::test]
async fn kubectl_shows_refusals() {
    for websockets in WEBSOCKETS {
        let server = serving::start(None).await;
        let Some(output) = kubectl(&server, websockets, &["exec", "web-0", "--", "refuse"], None).await else {
            return;
        };
        assert!(String::from_utf8_lossy(&output.stderr).contains("no such container here"));
        assert!(!output.status.success());
        let missing = ["exec", "web-0", "--", "/no/such/program"];
        let output = kubectl(&server, websockets, &missing, None).await.unwrap();
        assert!(String::from_utf8_lossy(&output.stderr).contains("No such file or directory"));
        assert!(!output.status.success());
    }
}

#[tokio::test]
async fn kubectl_works_through_a_proxy() {
    for wire in [remotecommand::Wire::WebSocket, remotecommand::Wire::Spdy] {
        for websockets in WEBSOCKETS {
            let behind = serving::start(None).await;
            let proxy = serving::start(Some((behind.address, wire))).await;
            let args = ["exec", "-i", "web-0", "--", "sh", "-c", "cat; exit 7"];
            let Some(output) = kubectl(&proxy, websockets, &args, Some(b"hello")).await else {
                return;
            };
            assert_eq!(
                (output.stdout.as_slice(), output.status.code()),
                (&b"hello"[..], Some(7))
            );
        }
    }
}
