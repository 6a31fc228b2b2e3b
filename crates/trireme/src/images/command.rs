//! The commands.

use super::line::{Entry, Line};
use super::over_cri::OverCri;
use super::remote::Remote;
use super::serve::SOCKET;
use super::{show, store};
use crate::cli::{Common, Images as Command};
use crate::instance::{Instance, Lock};
use crate::node::CRI_SOCKET;
use crate::progress::Bar;
use crate::{Failure, external_runtime};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use trireme_runtime::images::{Images, PullRequest};

/// Where the images are.
enum Place {
    /// With the Trireme that runs, whose runtime is its own.
    Running(OverCri, Remote),
    /// With another container runtime, whether Trireme runs or not.
    Elsewhere(OverCri),
    /// In a store that we hold meanwhile, so that no Trireme starts on it.
    Ours { images: Images, _hold: Lock },
}

/// Runs one of the commands.
///
/// # Errors
/// One line that says what to do.
pub fn run(common: &Common, command: &Command) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Ls { output } => {
                let images = Place::find(&Instance::existing(&common.data_dir)?, None).await?.list().await?;
                show::images(&images, *output)
            }
            Command::Import { files, output } => {
                let place = Place::find(&Instance::open(&common.data_dir)?, None).await?;
                let mut all = Vec::new();
                for file in files {
                    all.extend(place.import(file).await.map_err(|e| format!("{}: {e}", file.display()))?);
                }
                show::images(&all, *output)
            }
            Command::Pull { images, private_registry, output } => {
                let place = Place::find(&Instance::open(&common.data_dir)?, Some(private_registry)).await?;
                let mut all = Vec::new();
                for image in images {
                    all.extend(place.pull(image).await?);
                }
                show::images(&all, *output)
            }
            Command::Rm { images } => {
                let place = Place::find(&Instance::existing(&common.data_dir)?, None).await?;
                let mut missing = Vec::new();
                for image in images {
                    if !place.remove(image).await? {
                        missing.push(image.as_str());
                    }
                }
                if missing.is_empty() { Ok(()) } else { Err(format!("no such image: {}", missing.join(", ")).into()) }
            }
        }
    })
}

impl Place {
    async fn find(instance: &Instance, registries: Option<&Path>) -> Result<Self, Failure> {
        if let Some(socket) = external_runtime::current(instance)? {
            return Ok(Self::Elsewhere(OverCri { socket }));
        }
        match instance.lock() {
            Ok(lock) => {
                let options = store::options(instance, registries.unwrap_or(Path::new("/dev/null")))?;
                Ok(Self::Ours { images: Images::open(options).await?, _hold: lock })
            }
            Err(crate::instance::Error::Running { .. }) => {
                let cri = OverCri { socket: instance.path(CRI_SOCKET) };
                Ok(Self::Running(cri, Remote { images: instance.path(SOCKET) }))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn list(&self) -> Result<Vec<Entry>, Failure> {
        match self {
            Self::Running(cri, _) | Self::Elsewhere(cri) => cri.list().await,
            Self::Ours { images, .. } => Ok(entries(&images.list(None))),
        }
    }

    async fn remove(&self, image: &str) -> Result<bool, Failure> {
        match self {
            Self::Running(cri, _) | Self::Elsewhere(cri) => cri.remove(image).await,
            Self::Ours { images, .. } => Ok(images.remove(image).await?.is_some()),
        }
    }

    async fn import(&self, file: &Path) -> Result<Vec<Entry>, Failure> {
        let standard_input = file == Path::new("-");
        let bar = Arc::new(Bar::new(&format!("importing {}", file.display())));
        let archive: Box<dyn Read + Send> = if standard_input {
            Box::new(std::io::stdin())
        } else {
            let file = std::fs::File::open(file)?;
            bar.expect(file.metadata()?.len());
            Box::new(file)
        };
        match self {
            Self::Elsewhere(cri) => Err(cri.refuse_import(file).await),
            Self::Running(_, remote) if standard_input => remote.import(tokio::io::stdin(), &bar).await,
            Self::Running(_, remote) => remote.import(tokio::fs::File::open(file).await?, &bar).await,
            Self::Ours { images, .. } => {
                Ok(entries(&images.import(Counted { inner: archive, bar: bar.clone() }).await?))
            }
        }
    }

    async fn pull(&self, image: &str) -> Result<Vec<Entry>, Failure> {
        let bar = Arc::new(Bar::new(&format!("pulling {image}")));
        match self {
            Self::Running(_, remote) => remote.pull(image, &bar).await,
            Self::Elsewhere(cri) => cri.pull(image).await,
            Self::Ours { images, .. } => {
                let heard = bar.clone();
                let mut request = PullRequest::new(image);
                request.progress = Some(Arc::new(move |event| match Line::of(event) {
                    Some(Line::Expected(bytes)) => heard.expect(bytes),
                    Some(Line::Arrived { part, bytes }) => heard.part(&part, bytes),
                    _ => {}
                }));
                Ok(entries(&[images.pull(request).await?]))
            }
        }
    }
}

fn entries(images: &[Arc<trireme_runtime::images::Image>]) -> Vec<Entry> {
    images.iter().map(|image| Entry::from(&**image)).collect()
}

/// An archive whose bytes are counted as they are read.
struct Counted {
    inner: Box<dyn Read + Send>,
    bar: Arc<Bar>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bar.add(read as u64);
        Ok(read)
    }
}

/// Takes the archives of a directory, for machines without a registry: how many images came. A bad archive is named in
/// the log and keeps nothing else out.
pub async fn import_dir(images: &Images, dir: &Path) -> usize {
    match images.import_dir(dir).await {
        Ok(archives) => archives.iter().filter_map(|(_, result)| result.as_ref().ok()).map(Vec::len).sum(),
        Err(error) => {
            tracing::error!(%error, "no archives are imported");
            0
        }
    }
}
