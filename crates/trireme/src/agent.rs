//! `trireme agent`: a node of a cluster whose control plane is elsewhere.
//!
//! The join token names the authority by its digest ([`pin`]); with the token's secret the agent asks for a certificate
//! through the certificates API ([`join`]), and as the node that it then is for a serving certificate. It keeps both in
//! its data directory ([`files`]) and asks for new ones in time ([`renew`]).

mod files;
mod join;
mod pin;
mod renew;

use crate::cli::{self, Common};
use crate::instance::Instance;
use crate::life::{Life, until_told};
use crate::node::{self, Access, LocalNode};
use crate::progress::Progress;

use crate::shown::Shown;
use crate::usage::{self, Usage};
use crate::{Failure, cluster_info};
use files::Files;
use join::{Joiner, Kind};
use pin::{Pinned, Server};
use std::sync::Arc;
use std::time::Duration;
use trireme_client::Client;
use trireme_pki::JoinToken;
use trireme_telemetry::LogConfig;

/// An agent that never joined does not wait longer for its server.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs until it is told to stop.
///
/// # Errors
/// One line that says what to do.
pub fn run(common: &Common, args: &cli::Agent) -> Result<(), Failure> {
    let token: JoinToken =
        args.token.trim().parse().map_err(|error: trireme_pki::Error| Usage(format!("--token: {error}")))?;
    let server = Server::parse(&args.server).map_err(Usage)?;
    usage::none(usage::node(&args.node))?;
    usage::root()?;
    trireme_telemetry::start(&LogConfig { level: common.log_level.clone(), format: common.log_format })?;
    if common.data_dir.join("store").exists() {
        let dir = common.data_dir.display();
        return Err(format!("{dir} holds a control plane: choose another --data-dir for an agent").into());
    }
    let progress = Progress::start();
    let instance = Instance::open(&common.data_dir)?;
    let _lock = instance.lock()?;
    until_told(&progress, async |life| {
        let agent = start(&instance, args, server, token, &progress, life).await?;
        Ok(async move {
            agent.ended().await;
        })
    })
}

async fn start(
    instance: &Instance,
    args: &cli::Agent,
    server: Server,
    token: JoinToken,
    progress: &Progress,
    life: Life,
) -> Result<LocalNode, Failure> {
    let name = node::name(&args.node);
    let files = Files::open(&instance.path("agent"))?;
    let pinned = Pinned::new(server, &token.authority);
    let known = files.identity(Kind::Client)?.filter(|identity| join::usable(identity, &name));
    let patience = if known.is_some() { None } else { Some(PATIENCE) };
    pinned.answers(patience, progress).await?;

    let joiner = Joiner { name: name.clone(), ip: node::ip(&args.node) };
    let identity = match known {
        Some(identity) => identity,
        None => {
            let bootstrap = Client::new(pinned.transport(None, Some(token.secret.clone()))?, "trireme-agent");
            let refused = |error| {
                join::explain(error, "the server refuses the join token: copy DIR/node-token of the server again")
            };
            cluster_info::read(&bootstrap).await.map_err(refused)?;
            let identity = joiner.ask(&bootstrap, Kind::Client).await?;
            files.keep(Kind::Client, &identity)?;
            progress.done(&format!("Joined as {name}"));
            identity
        }
    };
    let client_shown = Shown::new(&identity)?;
    let transport = pinned.transport(Some(client_shown.clone()), None)?;
    let client = Client::new(transport.clone(), "kubelet");
    let refused = |error| {
        join::explain(error, "the server does not know this node's certificate: remove DIR/agent to join again")
    };
    let cluster = cluster_info::read(&client).await.map_err(refused)?;
    let serving = match files.identity(Kind::Serving)?.filter(|identity| joiner.covers(identity)) {
        Some(serving) => serving,
        None => {
            let serving = joiner.ask(&client, Kind::Serving).await?;
            files.keep(Kind::Serving, &serving)?;
            serving
        }
    };
    files.kubeconfig(&pinned, &identity)?;
    progress.done(&format!("Server {}", pinned.server.url));
    let serving_shown = Shown::new(&serving)?;
    let access = Access {
        client: client.clone(),
        network: Client::new(transport, "trireme-network"),
        serving: serving_shown.clone(),
    };
    let node = LocalNode::start(instance, &args.node, &cluster, access, progress, &life).await?;
    tokio::spawn(renew::keep(renew::Keeper {
        joiner,
        client,
        files,
        pinned,
        client_shown,
        serving_shown,
        stop: life.stop,
    }));
    progress.done(&format!("Node {name}"));
    Ok(node)
}

impl Pinned {
    /// The way to the server: as a node that shows its certificate, or with the secret of the token.
    fn transport(
        self: &Arc<Self>,
        shown: Option<Arc<Shown>>,
        token: Option<String>,
    ) -> Result<Arc<trireme_client::Https>, Failure> {
        let tls = self.tls(shown)?;
        Ok(Arc::new(trireme_client::Https::new(trireme_client::HttpsConfig {
            server: self.server.url.clone(),
            tls,
            token,
        })))
    }
}
