//! CRI's ImageService.

use base64::Engine;
use cri::v1::image_service_server::ImageService;
use cri::v1::{
    AuthConfig, FilesystemIdentifier, FilesystemUsage, Image as Item, ImageFsInfoRequest, ImageFsInfoResponse,
    ImageSpec, ImageStatusRequest, ImageStatusResponse, Int64Value, ListImagesRequest, ListImagesResponse,
    PullImageRequest, PullImageResponse, RemoveImageRequest, RemoveImageResponse, UInt64Value,
};
use tonic::{Request, Response, Status};

use super::Service;
use crate::failure::{blocking, chain};
use crate::images::{self, Credentials, Image};
use crate::monitor::plan::now;
use crate::rootfs;

fn refuse(error: images::Error) -> Status {
    let text = chain(&error);
    match error {
        images::Error::Name { .. } => Status::invalid_argument(text),
        images::Error::NotFound { .. } | images::Error::Platform { .. } => Status::not_found(text),
        images::Error::NotAllowed { .. } => Status::permission_denied(text),
        images::Error::Registry { .. } => Status::unavailable(text),
        images::Error::Digest { .. } | images::Error::Content { .. } => Status::data_loss(text),
        images::Error::Disk { .. } => Status::internal(text),
    }
}

/// An image as CRI describes one.
fn item(image: &Image) -> Item {
    let user = image
        .config
        .config
        .as_ref()
        .map_or("", |defaults| defaults.user.as_str());
    let user = user.split(':').next().unwrap_or_default();
    let uid = if user.is_empty() { None } else { user.parse().ok() };
    Item {
        id: image.id.clone(),
        repo_tags: image.tags.iter().cloned().collect(),
        repo_digests: image.digests.iter().cloned().collect(),
        size: image.size,
        uid: uid.map(|value| Int64Value { value }),
        username: if uid.is_none() { user.to_owned() } else { String::new() },
        spec: Some(ImageSpec {
            image: image.id.clone(),
            ..ImageSpec::default()
        }),
        pinned: false,
    }
}

fn name(image: Option<ImageSpec>) -> Result<String, Status> {
    let name = image.map(|image| image.image).unwrap_or_default();
    if name.is_empty() {
        Err(Status::invalid_argument("no image is named"))
    } else {
        Ok(name)
    }
}

fn credentials(auth: Option<AuthConfig>) -> Result<Credentials, Status> {
    let Some(auth) = auth else {
        return Ok(Credentials::default());
    };
    if !auth.identity_token.is_empty() {
        return Err(Status::unimplemented(
            "identity tokens are not supported; use a user name and a password",
        ));
    }
    let mut credentials = Credentials {
        username: auth.username,
        password: auth.password,
        token: auth.registry_token,
    };
    if credentials.username.is_empty() && !auth.auth.is_empty() {
        let bad = |_| Status::invalid_argument("the credentials are not base64 of user:password");
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(&auth.auth)
            .map_err(bad)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (username, password) = text.split_once(':').unwrap_or((&text, ""));
        (credentials.username, credentials.password) =
            (username.to_owned(), password.trim_end_matches('\0').to_owned());
    }
    Ok(credentials)
}

#[tonic::async_trait]
impl ImageService for Service {
    async fn list_images(&self, request: Request<ListImagesRequest>) -> Result<Response<ListImagesResponse>, Status> {
        let wanted = request
            .into_inner()
            .filter
            .and_then(|filter| filter.image)
            .map(|image| image.image)
            .unwrap_or_default();
        let images = match wanted.as_str() {
            "" => self.0.images.list().map_err(refuse)?,
            name => self.0.images.find(name).map_err(refuse)?.into_iter().collect(),
        };
        Ok(Response::new(ListImagesResponse {
            images: images.iter().map(item).collect(),
        }))
    }

    async fn image_status(
        &self,
        request: Request<ImageStatusRequest>,
    ) -> Result<Response<ImageStatusResponse>, Status> {
        let image = self.0.images.find(&name(request.into_inner().image)?).map_err(refuse)?;
        // CRI: an image that is not there is no error.
        Ok(Response::new(ImageStatusResponse {
            image: image.as_ref().map(item),
            ..ImageStatusResponse::default()
        }))
    }

    async fn pull_image(&self, request: Request<PullImageRequest>) -> Result<Response<PullImageResponse>, Status> {
        let request = request.into_inner();
        let name = name(request.image)?;
        let turn = self.0.turn_to_pull(&name);
        let _turn = turn.lock().await;
        let image = images::pull(&self.0.images, &name, &credentials(request.auth)?)
            .await
            .map_err(refuse)?;
        tracing::info!(image = name, id = image.id, "image pulled");
        Ok(Response::new(PullImageResponse { image_ref: image.id }))
    }

    async fn remove_image(
        &self,
        request: Request<RemoveImageRequest>,
    ) -> Result<Response<RemoveImageResponse>, Status> {
        let name = name(request.into_inner().image)?;
        let (images, used) = (self.0.images.clone(), self.0.layers_in_use());
        blocking(move || images.remove(&name, &used).map_err(refuse)).await?;
        Ok(Response::new(RemoveImageResponse {}))
    }

    async fn image_fs_info(&self, _: Request<ImageFsInfoRequest>) -> Result<Response<ImageFsInfoResponse>, Status> {
        let (layers, containers) = (self.0.images.layers(), self.0.config.root.join("containers"));
        let measure = |path: std::path::PathBuf| {
            blocking(move || {
                let (bytes, inodes) = rootfs::usage(&path);
                Ok(FilesystemUsage {
                    timestamp: now(),
                    fs_id: Some(FilesystemIdentifier {
                        mountpoint: path.display().to_string(),
                    }),
                    used_bytes: Some(UInt64Value { value: bytes }),
                    inodes_used: Some(UInt64Value { value: inodes }),
                })
            })
        };
        Ok(Response::new(ImageFsInfoResponse {
            image_filesystems: vec![measure(layers).await?],
            container_filesystems: vec![measure(containers).await?],
        }))
    }
}
