//! The project's own commands, run as `cargo xtask COMMAND`.

mod architecture;
mod check;
mod debian;
mod demo;
mod fuzz;
mod gen_fields;
#[cfg(feature = "gen-proto")]
mod gen_proto;
mod gen_schema;
mod go_client;
mod go_schema;
mod go_types;
mod image;
mod rules;
mod sabotage;
mod shell;
mod sim;
mod test;

const USAGE: &str = "cargo xtask COMMAND

  demo [--once] [--runtime containerd]   build, start and walk through a StatefulSet, live
  test [FILTER]                          install what the tests need and run all of them
  check                                  formatting, lints, the crates' arrows
  image NAME OUT.tar                     build a test image from Debian packages
  rules                                  bring the line numbers of docs/statefulset.md up to date
  sim [--seeds N] [--from S] …           simulate the control plane; see `cargo run -p sim -- --help`
  sabotage [WORD] [--seeds N] …          break rules of the controllers in turn and see the simulator notice
  fuzz [TARGET…] [--seconds N]           fuzz the parsers of what strangers send, each for a minute
  gen-proto                              regenerate crates/{cri,csi,store-etcd} (needs --features gen-proto)
  gen-schema DIR GO_DIR                  regenerate the schema table from published OpenAPI documents and Go types
  gen-fields GO_DIR                      regenerate the table of protobuf fields from published Go types";

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["demo", rest @ ..] => demo::run(rest),
        ["demo-as-root", rest @ ..] => demo::run_as_root(rest),
        ["test", rest @ ..] => test::run(rest),
        ["check"] => check::run(),
        ["rules"] => rules::run(),
        ["sim", rest @ ..] => sim::run(rest),
        ["sabotage", rest @ ..] => sabotage::run(rest),
        ["fuzz", rest @ ..] => fuzz::run(rest),
        ["image", name, out] => image::build(name, out.as_ref()),
        #[cfg(feature = "gen-proto")]
        ["gen-proto"] => gen_proto::run(),
        #[cfg(not(feature = "gen-proto"))]
        ["gen-proto"] => anyhow::bail!("run: cargo run -p xtask --features gen-proto -- gen-proto"),
        ["gen-schema", dir, go_dir] => gen_schema::run(dir.as_ref(), go_dir.as_ref()),
        ["gen-fields", go_dir] => gen_fields::run(go_dir.as_ref()),
        [] | ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => anyhow::bail!("unknown command {words:?}\n\n{USAGE}"),
    }
}
