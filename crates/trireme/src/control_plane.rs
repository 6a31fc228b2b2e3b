//! Wires store, API server, controllers and scheduler.

use crate::certificates::Certificates;
use crate::cli::Server;
use crate::instance::Instance;
use crate::private::private;
use crate::reload::{self, Before};
use crate::shown::Shown;
use crate::{Failure, address, election, version};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trireme_apiserver::kubelet::{Direct, Kubelets};
use trireme_apiserver::listener::{self, Tls};
use trireme_apiserver::{ApiServer, Config, User};
use trireme_client::{Client, Credentials, Informers, Kubeconfig, Work, tls_trusting};
use trireme_controllers::{Clients, Clock, Controllers, Options};
use trireme_pki::{Authority, ClusterPki, Role, ServingNames};
use trireme_scheduler::config::Configuration;
use trireme_scheduler::plugins::Sources;
use trireme_scheduler::{Metrics, Scheduler};

/// A control plane that runs.
pub struct ControlPlane {
    /// The API server.
    pub server: Arc<ApiServer>,
    /// The cluster's keys.
    pub pki: ClusterPki,
    /// URL for clients on this machine.
    pub url: String,
    tasks: Vec<JoinHandle<()>>,
}

/// What is below the data directory.
pub const KUBECONFIG: &str = "kubeconfig";

impl ControlPlane {
    /// Starts it; it is ready when this returns.
    ///
    /// # Errors
    /// One line that says what to do.
    pub async fn start(instance: &Instance, args: &Server, stop: &CancellationToken) -> Result<Self, Failure> {
        let node_ip = args.node.node_ip.unwrap_or_else(address::of_default_route);
        let advertise = args.advertise_address.unwrap_or(node_ip);
        let service_ip = args.service_cidr.nth(1).ok_or("--service-cidr is too small")?;
        let port = args.https_listen_port;
        let listener = TcpListener::bind((args.bind_address, port)).await.map_err(|error| {
            format!("cannot listen on {}:{port}: {error}; choose another with --https-listen-port", args.bind_address)
        })?;
        let port = listener.local_addr()?.port();

        let names = serving_names(args, advertise, service_ip);
        let life = Duration::from_secs(args.certificate_life);
        let (certificates, pki) = Certificates::open(instance, names.clone(), life)?;
        let before = Before::read(&args.security);
        let sealing = args.security.sealing()?;
        let store = match &sealing {
            None => trireme_store::Store::open(&instance.path("store"))?,
            Some(sealing) => trireme_store::Store::open_sealed(&instance.path("store"), sealing.clone())?,
        };
        let config = Config {
            service_ranges: vec![args.service_cidr.to_string().parse()?],
            advertise_address: advertise,
            advertise_port: port,
            cluster_domain: args.cluster_domain.clone(),
            version: format!("{}+trireme{}", version::KUBERNETES, version::TRIREME),
            client_ca: pki.client_ca.certificate().to_owned(),
            server_ca: pki.server_ca.certificate().to_owned(),
            service_account_key: pki.service_account_key.clone(),
            // What a join token proves: that its bearer may ask for the certificate of a node.
            static_tokens: args
                .security
                .tokens((pki.node_secret.clone(), User::new("system:bootstrap:trireme", &["system:bootstrappers"])))?,
            authentication: args.security.authentication(&pki.front_proxy_ca)?,
            authorization: Arc::new(args.security.authorization()?),
            admission: args.security.admission()?,
            audit: args.security.audit()?,
            aggregation: args.security.aggregation(certificates.front_proxy.clone())?,
        };
        let users = trireme_pki::certificates(pki.client_ca.certificate(), "the client CA")?;
        let proxies = config.authentication.request_headers.as_ref();
        let proxies = proxies.map(|h| trireme_pki::certificates(&h.client_ca, "the front proxies' CA")).transpose()?;
        let clients = listener::Clients::new(&users, &proxies.unwrap_or_default())?;
        let server = ApiServer::open(store, config, kubelets(&pki, certificates.kubelet_client.clone())?).await?;
        let tls = Tls::showing(certificates.serving.clone(), clients)?;
        let mut tasks = vec![tokio::spawn(listener::serve(server.clone(), listener, tls, stop.clone()))];
        tasks.extend(reload::start(&server, before, sealing, stop));

        // One cache of the state for all components of this process; each acts as itself.
        let clients = controller_clients(&server);
        let informers = Arc::new(Informers::new(clients(None), stop.clone()));
        let disabled = |name: &str| args.disable.iter().any(|d| d == name);
        let options = Options {
            disable: args.disable.iter().cloned().collect(),
            cluster_cidrs: vec![args.cluster_cidr.to_string().parse()?],
            service_cidrs: vec![args.service_cidr.to_string()],
            root_ca: pki.server_ca.certificate().to_owned(),
            service_account_key: Some(pki.service_account_key.clone()),
            client_signer: Some(Arc::new(same(&pki.client_ca)?)),
            serving_signer: Some(Arc::new(same(&pki.server_ca)?)),
            server_names: names.names.iter().cloned().chain(names.addresses.iter().map(ToString::to_string)).collect(),
            autoscaling: (&args.autoscaling).into(),
            ..Options::default()
        };
        let identity = election::identity()?;
        let manager = "kube-controller-manager";
        match election::candidate(&args.election, manager, clients(None), &identity) {
            None => tasks.push(Controllers::start(options, clients, informers.clone(), Clock::system(), stop.clone())),
            Some(elector) => {
                let work: Work = Box::new(move |term| {
                    let informers = Arc::new(Informers::new(clients(None), term.clone()));
                    Controllers::start(options.clone(), clients.clone(), informers, Clock::system(), term)
                });
                tasks.push(tokio::spawn(elector.lead(stop.clone(), work)));
            }
        }
        if !disabled("scheduler") {
            let scheduler = User::new("system:kube-scheduler", &[]);
            let scheduler = Client::new(Arc::new(server.transport(scheduler)), "kube-scheduler");
            let config = scheduling(args.kube_scheduler_config.as_deref())?;
            let metrics = Arc::new(Metrics::default());
            let counted = Arc::clone(&metrics);
            server.add_metrics(move |out| counted.write(out));
            match election::candidate(&args.election, "kube-scheduler", scheduler.clone(), &identity) {
                None => tasks.push(schedule(&config, scheduler, &informers, metrics, stop.clone())),
                Some(elector) => {
                    let work: Work = Box::new(move |term| {
                        let informers = Arc::new(Informers::new(scheduler.clone(), term.clone()));
                        schedule(&config, scheduler.clone(), &informers, Arc::clone(&metrics), term)
                    });
                    tasks.push(tokio::spawn(elector.lead(stop.clone(), work)));
                }
            }
        }

        let host =
            if args.bind_address.is_unspecified() { "127.0.0.1".to_owned() } else { args.bind_address.to_string() };
        let url =
            if host.contains(':') { format!("https://[{host}]:{port}") } else { format!("https://{host}:{port}") };
        Self::write_files(instance, args, &pki, &url)?;
        tasks.push(tokio::spawn(certificates.keep(instance.clone(), args.clone(), url.clone(), stop.clone())));
        Ok(Self { server, pki, url, tasks })
    }

    /// The administrator's kubeconfig, and the token with which agents join.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_files(instance: &Instance, args: &Server, pki: &ClusterPki, url: &str) -> Result<(), Failure> {
        let text = Kubeconfig {
            name: "trireme".into(),
            server: url.to_owned(),
            ca: pki.server_ca.certificate().to_owned(),
            credentials: Credentials::Certificate {
                certificate: pki.admin.certificate.clone(),
                key: pki.admin.key.clone(),
            },
        }
        .to_yaml();
        let own = instance.path(KUBECONFIG);
        for path in std::iter::once(&own).chain(&args.write_kubeconfig) {
            private(path, &text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        }
        let path = instance.path("node-token");
        let token = pki.join_token(Role::Node)?.to_string();
        private(&path, &format!("{token}\n")).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        Ok(())
    }

    /// A client of this server that acts as a user.
    pub fn client(&self, user: User, agent: &str) -> Client {
        Client::new(Arc::new(self.server.transport(user)), agent)
    }

    /// Makes the service by which pods know cluster DNS.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn publish_dns(&self, address: IpAddr) -> Result<(), Failure> {
        let client = self.client(User::new("system:apiserver", &["system:masters"]), "trireme");
        let service = serde_json::json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "kube-dns", "labels": {
                "k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS", "kubernetes.io/cluster-service": "true"}},
            "spec": {"clusterIP": address.to_string(), "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]}
        });
        let services = client.namespaced::<k8s_openapi::api::core::v1::Service>("kube-system");
        let failed = |error: trireme_client::Error| format!("cannot make the DNS service: {error}");
        if services.find("kube-dns").await.map_err(failed)?.is_none() {
            services.create(&service).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Waits until all tasks have ended.
    pub async fn ended(self) {
        for task in self.tasks {
            // A task that panicked has said so in the log.
            let _ = task.await;
        }
    }
}

/// How pods are placed.
///
/// # Errors
/// What is wrong with the file.
pub fn scheduling(file: Option<&Path>) -> Result<Configuration, Failure> {
    let Some(file) = file else { return Ok(Configuration::usual()) };
    let config = Configuration::read(file).map_err(|why| format!("--kube-scheduler-config: {why}"))?;
    trireme_scheduler::plugins::profiles(&config, &Sources::none())
        .map_err(|why| format!("--kube-scheduler-config: {}: {why}", file.display()))?;
    Ok(config)
}

/// Starts the scheduler; [`scheduling`] has tried its configuration.
fn schedule(
    config: &Configuration,
    client: Client,
    informers: &Arc<Informers>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> JoinHandle<()> {
    Scheduler::start(config, client, informers, metrics, stop)
        .unwrap_or_else(|why| tokio::spawn(async move { tracing::error!(%why, "nothing is scheduled") }))
}

/// Controllers act as service accounts of their own, with the roles that these have.
fn controller_clients(server: &Arc<ApiServer>) -> Clients {
    const NAMESPACE: &str = "kube-system";
    let server = server.clone();
    Arc::new(move |account| {
        let user = match account {
            None => User::new("system:kube-controller-manager", &[]),
            Some(account) => User::new(
                &format!("system:serviceaccount:{NAMESPACE}:{account}"),
                &["system:serviceaccounts", &format!("system:serviceaccounts:{NAMESPACE}")],
            ),
        };
        Client::new(Arc::new(server.transport(user)), "kube-controller-manager")
    })
}

/// An authority once more, for who needs one of his own.
///
/// # Errors
/// None that it had not when it was made.
pub fn same(authority: &Authority) -> Result<Authority, Failure> {
    Ok(Authority::load(authority.certificate().to_owned(), authority.key().to_owned())?)
}

fn serving_names(args: &Server, advertise: IpAddr, service_ip: IpAddr) -> ServingNames {
    let mut names: Vec<String> = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        .iter()
        .map(|n| (*n).to_owned())
        .collect();
    names.push(format!("kubernetes.default.svc.{}", args.cluster_domain));
    names.push(address::host_name());
    let mut addresses =
        vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from(std::net::Ipv6Addr::LOCALHOST), advertise, service_ip];
    if !args.bind_address.is_unspecified() {
        addresses.push(args.bind_address);
    }
    for san in &args.tls_san {
        match san.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => names.push(san.clone()),
        }
    }
    names.sort();
    names.dedup();
    addresses.sort();
    addresses.dedup();
    ServingNames { names, addresses }
}

/// The way to kubelets: their certificates are of the server authority, ours says that we are the API server.
fn kubelets(pki: &ClusterPki, shown: Arc<Shown>) -> Result<Kubelets, Failure> {
    let authority = trireme_pki::certificates(pki.server_ca.certificate(), "the server CA")?;
    let tls = tls_trusting(authority)?.with_client_cert_resolver(shown);
    Ok(Kubelets::new(Arc::new(Direct), Arc::new(tls)))
}
