//! `steadfast image`: images without a registry.

use crate::args::{ImageArgs, ImageCommand};
use crate::config::{Config, Runtime};
use anyhow::{Context, bail};
use cri::v1::image_service_client::ImageServiceClient;
use cri::v1::{Image, ListImagesRequest};
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs a command on images.
///
/// # Errors
/// When an archive is no image archive, or the runtime does not answer.
pub(crate) async fn run(args: ImageArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        ImageCommand::Load { config, archives } => load(&Config::resolve_last(&config)?, archives).await?,
        ImageCommand::List { config } => list(&Config::resolve_last(&config)?).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn load(config: &Config, archives: Vec<PathBuf>) -> anyhow::Result<()> {
    if let Runtime::Endpoint(endpoint) = &config.runtime {
        bail!(
            "images of another runtime are loaded with its own tool, e.g. `ctr -n k8s.io images import` for {endpoint}"
        );
    }
    let root = config.data_dir.join("runtime");
    for archive in archives {
        let root = root.clone();
        let shown = archive.display().to_string();
        let names = tokio::task::spawn_blocking(move || runtime::images::load_archive(&root, &archive))
            .await?
            .with_context(|| format!("cannot load {shown}"))?;
        for name in names {
            println!("loaded {name}");
        }
    }
    Ok(())
}

async fn list(config: &Config) -> anyhow::Result<()> {
    let endpoint = config.runtime_endpoint();
    let mut images = ImageServiceClient::new(cri::connect(&endpoint)?)
        .list_images(ListImagesRequest::default())
        .await
        .with_context(|| format!("no runtime answers at {endpoint}: is `steadfast up` running?"))?
        .into_inner()
        .images;
    images.sort_by(|a, b| a.repo_tags.cmp(&b.repo_tags));
    println!("{:<48} {:<14} {:>10}", "IMAGE", "ID", "SIZE");
    for image in &images {
        println!("{}", row(image));
    }
    Ok(())
}

fn row(image: &Image) -> String {
    let name = image
        .repo_tags
        .first()
        .or(image.repo_digests.first())
        .map_or("<none>", String::as_str);
    let id = image.id.trim_start_matches("sha256:");
    let mib = image.size / (1 << 20);
    format!("{name:<48} {:<14} {mib:>6} MiB", &id[..id.len().min(12)])
}
