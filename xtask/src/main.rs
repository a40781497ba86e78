//! The project's own commands, run as `cargo xtask COMMAND`.

mod gen_proto;

fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("gen-proto") => gen_proto::run(),
        other => anyhow::bail!("unknown command {other:?}; known: gen-proto"),
    }
}
