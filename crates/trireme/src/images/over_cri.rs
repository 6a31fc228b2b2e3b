//! Asking a container runtime over CRI: Trireme's own, or another.

use super::line::Entry;
use crate::Failure;
use std::path::{Path, PathBuf};
use trireme_cri::{
    ImageFilter, ImageSpec, ImageStatusRequest, ListImagesRequest, PullImageRequest, RemoveImageRequest, VersionRequest,
};
use trireme_node::Cri;

/// A runtime behind a socket.
pub struct OverCri {
    /// The socket.
    pub socket: PathBuf,
}

fn text(status: tonic::Status) -> Failure {
    status.message().to_owned().into()
}

fn spec(image: &str) -> Option<ImageSpec> {
    Some(ImageSpec { image: image.to_owned(), user_specified_image: image.to_owned(), ..ImageSpec::default() })
}

impl OverCri {
    async fn connect(&self) -> Result<Cri, Failure> {
        let failed = |e| format!("the container runtime does not answer at {}: {e}", self.socket.display());
        Ok(Cri::connect(&self.socket).await.map_err(failed)?)
    }

    /// All images.
    pub async fn list(&self) -> Result<Vec<Entry>, Failure> {
        let request = ListImagesRequest { filter: None::<ImageFilter> };
        let answer = self.connect().await?.images.list_images(request).await.map_err(text)?;
        Ok(answer.into_inner().images.into_iter().map(Entry::from).collect())
    }

    /// Removes an image; `false` when it is not there.
    pub async fn remove(&self, image: &str) -> Result<bool, Failure> {
        let mut images = self.connect().await?.images;
        if find(&mut images, image).await?.is_none() {
            return Ok(false);
        }
        images.remove_image(RemoveImageRequest { image: spec(image) }).await.map_err(text)?;
        Ok(true)
    }

    /// Pulls an image, with what the runtime knows of registries. How far it is, CRI does not tell.
    pub async fn pull(&self, image: &str) -> Result<Vec<Entry>, Failure> {
        let mut images = self.connect().await?.images;
        let request = PullImageRequest { image: spec(image), ..PullImageRequest::default() };
        images.pull_image(request).await.map_err(text)?;
        Ok(find(&mut images, image).await?.into_iter().collect())
    }

    /// Why an archive cannot be imported, and what does it instead.
    pub async fn refuse_import(&self, archive: &Path) -> Failure {
        let mut cri = match self.connect().await {
            Ok(cri) => cri,
            Err(error) => return error,
        };
        let name = cri.runtime.version(VersionRequest::default()).await.map(|v| v.into_inner().runtime_name);
        format!("CRI has no call to import archives: {}", importing(&name.unwrap_or_default(), &self.socket, archive))
            .into()
    }
}

/// The command of a runtime that imports an archive.
fn importing(runtime: &str, socket: &Path, archive: &Path) -> String {
    let (socket, archive) = (socket.display(), archive.display());
    match runtime {
        // The namespace in which containerd's CRI looks.
        "containerd" => format!("use ctr -a {socket} -n k8s.io images import {archive}"),
        "cri-o" => format!("use skopeo copy docker-archive:{archive} containers-storage:IMAGE"),
        _ => "use the tools of the container runtime".to_owned(),
    }
}

type Images = trireme_cri::image_service_client::ImageServiceClient<tonic::transport::Channel>;

async fn find(images: &mut Images, image: &str) -> Result<Option<Entry>, Failure> {
    let request = ImageStatusRequest { image: spec(image), verbose: false };
    Ok(images.image_status(request).await.map_err(text)?.into_inner().image.map(Entry::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_that_of_the_runtime() {
        let command = |runtime| importing(runtime, Path::new("/run/c.sock"), Path::new("app.tar"));
        assert_eq!(command("containerd"), "use ctr -a /run/c.sock -n k8s.io images import app.tar");
        assert!(command("cri-o").contains("skopeo"));
        assert!(command("").contains("tools"));
    }
}
