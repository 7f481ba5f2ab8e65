//! The wiring of one server, and the order in which it starts and ends. The one file that may know every module.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use actix_web::dev::{Extensions, ServerHandle};
use actix_web::{App, HttpServer, web};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinError;

use crate::auth::key::Keyring;
use crate::auth::secrets::{SecretError, Secrets};
use crate::config::identity::{DataDir, IdentityError, ServerIdentity};
use crate::config::settings::StoreKind;
use crate::config::{Config, Permission, probe};
use crate::edge::Site;
use crate::home::sessions::{self, SessionHome};
use crate::home::{Content, Home, Homes, Search, Threads, Waker};
use crate::http::State;
use crate::link::{self, Dialler, Host, Links};
use crate::model::ids::Epoch;
use crate::model::inbox::Limits;
use crate::model::keyed;
use crate::node::{Company, DialBy, Drain, Drained, Listening, Node, Offers, Setup, Standing};
use crate::outside;
use crate::push::{PushError, PushHandle, PushQueue};
use crate::store::memory::MemoryStore;
use crate::store::sled::SledStore;
use crate::store::{Store, StoreError};
use crate::tls::link::{DialTls, ShownCertificate};
use crate::tls::{self, TlsError};
use crate::view::{View, now};
use crate::watch::{self, Watch};

/// A socket that takes nothing for this long is given up by the kernel: also one whose peer is gone, or reads nothing.
const STUCK_SOCKET: Duration = Duration::from_secs(30);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 4096;
/// How long a connection that ends is still read, so that what was written last is not lost to a reset. The library's clock
/// is up to 500 ms behind, and with a time that has passed already it would wait for ever: hence not less.
const LAST_WORDS: Duration = Duration::from_millis(600);
/// Connections beyond the limit that are still accepted by each worker, for requests, and to say no.
const SPARE_CONNECTIONS: usize = 4096;
/// How often a server that goes away looks whether it may.
const STEP: Duration = Duration::from_millis(20);
/// How long the key in the console's link is good that `--dev` prints, in milliseconds.
const DEV_KEY_MS: u64 = 24 * 3600 * 1000;
/// How long a peer has to send the head of a request.
const REQUEST_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Push(#[from] PushError),
    #[error("cannot listen on {address}: {source} (does another program have the port?)")]
    Listen { address: std::net::SocketAddr, source: io::Error },
    #[error("the server cannot run")]
    Run(#[source] io::Error),
}

impl AppError {
    /// Whether a person must change what the server is told before another start can succeed.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Secret(_) | Self::Tls(_) | Self::Push(_))
    }
}

/// Runs a server until it is told to end by SIGTERM or SIGINT, and has gone away.
pub async fn serve(config: Config) -> Result<(), AppError> {
    keyed::set_key(outside::chance());
    let data_dir = Arc::new(DataDir::open(&config.data_dir)?);
    let secrets = Secrets::load(&config.secret)?;
    let identity = data_dir.begin(config.node_id.as_ref())?;
    probe::refuse_taken_address(&config, &identity).await?;
    let store = open_store(&config)?;
    let keyring = Keyring::new(secrets);
    let search = Search::new(store.clone());
    let parts = Parts::assemble(&config, &identity, &data_dir, store)?;
    let links = web::Data::new(parts.links(&config, &keyring));
    let watch = parts.watch(&config, search);
    let state = web::Data::new(State::new(parts.site.clone(), parts.push.clone(), watch, config, keyring, &identity));
    let server = listen(&state, &links)?;
    // Others may dial it from now on, and it them.
    parts.site.node.do_send(Listening(state.address()));
    let of_offers = state.clone();
    parts.site.node.do_send(Offers(Box::new(move |device| of_offers.offer_elsewhere(device))));
    let handle = server.handle();
    let mut running = actix_web::rt::spawn(server);
    tokio::select! {
        result = &mut running => return ended(result),
        () = links.thread_offered() => {}
    }
    let dialler = Dialler::begin(&links, state.config.links.plan, state.config.links.peers.clone());
    parts.site.node.do_send(DialBy(dialler.recipient()));
    // Only now are there devices that could be reached.
    println_ready(&state);
    tokio::select! {
        result = &mut running => ended(result)?,
        () = end_wanted() => {}
        () = parts.site.standing.leaving() => {}
    }
    let deadline = state.config.drain_deadline;
    if tokio::time::timeout(deadline, parts.go_away(&handle, deadline)).await.is_err() {
        log::warn!("the time to go away is over; what was confirmed is durable all the same");
    }
    drop(data_dir);
    Ok(())
}

/// The HTTP side has ended by itself.
fn ended(result: Result<io::Result<()>, JoinError>) -> Result<(), AppError> {
    result.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(AppError::Run)
}

/// Everything behind the door.
struct Parts {
    site: Arc<Site>,
    home: Homes,
    threads: Threads,
    push: PushHandle,
}

impl Parts {
    fn assemble(
        config: &Config,
        identity: &ServerIdentity,
        data_dir: &Arc<DataDir>,
        store: Arc<dyn Store>,
    ) -> Result<Self, AppError> {
        let desk = Home::open(store.clone());
        let home = desk.homes();
        let mesh = Node::alone(identity, config.pins.clone());
        let view = Arc::new(View::new(mesh, Box::new(home.clone()), config.limits.outbox_max_bytes, identity.epoch));
        let doubtful = sessions::load(&*store, &view)?;
        let push = start_push(config, &home, store.clone())?;
        let (of_node, of_wakes) = (push.clone(), push.clone());
        let waker: Waker = Arc::new(move |notification| of_wakes.notify(notification));
        let limits = Limits {
            bytes: config.limits.inbox_max_bytes,
            count: config.limits.inbox_max_count,
            age_ms: config.limits.inbox_max_age.as_millis() as u64,
        };
        let content = if config.push.content { Content::Shown } else { Content::Hidden };
        let threads = desk.start(view.clone(), limits, waker, content).map_err(AppError::Run)?;
        let company = if config.links.peers.is_empty() { Company::None } else { Company::Expected };
        let standing = Arc::new(Standing::new(config.limits.max_connections, config.limits.admission_rate, company));
        let node = Node::new(Setup {
            view: view.clone(),
            homes: home.clone(),
            standing: standing.clone(),
            push: of_node,
            identity: identity.clone(),
            dir: data_dir.clone(),
            store,
            pins: config.pins.clone(),
        });
        let node = Node::start_in_arbiter(&Arbiter::new().handle(), move |_| node);
        let of_home = (home.clone(), view.clone());
        let sessions = SessionHome::start_in_arbiter(&Arbiter::new().handle(), move |_| {
            SessionHome::new(&of_home.0, of_home.1, doubtful)
        });
        SessionHome::open(sessions.clone(), &home);
        let server = identity.node.clone();
        let limits = config.limits;
        let site = Arc::new(Site {
            server,
            view,
            home: home.clone(),
            sessions,
            node,
            standing,
            limits,
            spent: std::sync::Mutex::default(),
        });
        Ok(Self { site, home, threads, push })
    }

    /// The links of this server; there are none yet.
    fn links(&self, config: &Config, keyring: &Keyring) -> Links {
        let plan = &config.links;
        let without = if plan.demands_certificate() { Permission::Refused } else { Permission::Granted };
        let certificate = plan.certificate.as_ref().map(|files| (files.cert.clone(), files.key.clone()));
        let setup = link::Setup {
            own: self.site.server.clone(),
            host: Host::of(&self.site.node),
            receiver: self.site.view.clone(),
            tls: DialTls::new(plan.ca.clone(), certificate),
            without_certificate: without,
        };
        Links::new(setup, keyring)
    }

    /// What operators are told.
    fn watch(&self, config: &Config, search: Search) -> Arc<Watch> {
        Watch::begin(watch::Setup {
            own: self.site.server.clone(),
            view: self.site.view.clone(),
            homes: self.home.clone(),
            node: self.site.node.clone(),
            push: self.push.clone(),
            search,
            drain_deadline: config.drain_deadline,
        })
    }

    /// Tells the devices, waits for them as long as the deadline allows, and makes what is left durable.
    async fn go_away(self, server: &ServerHandle, deadline: Duration) {
        let (sender, drained) = oneshot::channel();
        let asked = self.site.node.send(Drain { deadline }).await.is_ok();
        if asked && self.site.node.send(Drained(sender)).await.is_ok() {
            tokio::select! {
                _ = drained => {}
                () = end_wanted() => log::warn!("told again to end: not waiting for devices any more"),
            }
        }
        server.pause().await;
        // What edges have not acknowledged goes to the inboxes; nobody is left to be waited for.
        let view = &self.site.view;
        view.devices.for_each(|device| device.connections().into_iter().for_each(|edge| view.detach(device, edge)));
        self.home.flush().await;
        // What other servers are to have of it is theirs before this one goes.
        while !view.is_quiet() {
            tokio::time::sleep(STEP).await;
        }
        server.stop(false).await;
        self.push.stop().await;
        self.home.close();
        let threads = self.threads;
        if web::block(move || threads.join()).await.is_err() {
            log::error!("the committer could not be waited for");
        }
        log::info!("gone away with {} devices still connected", self.site.standing.connections());
    }
}

fn open_store(config: &Config) -> Result<Arc<dyn Store>, AppError> {
    // A store in this place never had this epoch before, as long as the clock does not go back.
    let new_epoch = Epoch(now().0);
    match config.store {
        StoreKind::Memory => {
            log::warn!("--store memory keeps nothing: inboxes and sessions end with this process");
            Ok(Arc::new(MemoryStore::new(new_epoch)))
        }
        StoreKind::Sled => Ok(Arc::new(SledStore::open(&config.data_dir.join("store"), new_epoch)?.store)),
    }
}

fn start_push(config: &Config, home: &Homes, store: Arc<dyn Store>) -> Result<PushHandle, AppError> {
    let mut settings = config.push.clone();
    settings.allow_private |= config.allow_private_push == Permission::Granted;
    let journal = Arc::new(home.clone());
    let of_dead = home.clone();
    let on_dead = Arc::new(move |device, token| of_dead.remove_token(device, token));
    Ok(PushQueue::start(&settings, &config.data_dir, store, journal, on_dead)?)
}

fn listen(state: &web::Data<State>, links: &web::Data<Links>) -> Result<actix_web::dev::Server, AppError> {
    let config = state.config.clone();
    let shared = state.clone();
    let links = links.clone();
    let app = move || {
        links.offer_thread();
        App::new().app_data(shared.clone()).app_data(links.clone()).configure(crate::http::configure)
    };
    let server = HttpServer::new(app)
        .on_connect(prepare)
        .backlog(BACKLOG)
        // Who is too many is told so by us, with a status; the library would let them wait.
        .max_connections(
            usize::try_from(config.limits.max_connections).unwrap_or(usize::MAX).saturating_add(SPARE_CONNECTIONS),
        )
        .client_request_timeout(REQUEST_PATIENCE)
        .client_disconnect_timeout(LAST_WORDS)
        .shutdown_timeout(1)
        .disable_signals();
    let failed = |source| AppError::Listen { address: config.listen, source };
    let server = match &config.tls {
        None => server.bind(config.listen).map_err(failed)?,
        Some(files) => {
            let client_ca = config.links.ca.as_deref().filter(|_| config.links.demands_certificate());
            let (tls, reloader) = tls::server_config_with(&files.cert, &files.key, client_ca)?;
            actix_web::rt::spawn(reloader.watch());
            server.bind_rustls_0_23(config.listen, tls).map_err(failed)?
        }
    };
    if let Some(port) = server.addrs().first().map(std::net::SocketAddr::port) {
        state.bound(port);
    }
    if let Some(address) = config.metrics_bind {
        let shared = state.clone();
        let metrics =
            HttpServer::new(move || App::new().app_data(shared.clone()).configure(crate::http::configure_metrics))
                .workers(1)
                .disable_signals()
                .bind(address)
                .map_err(|source| AppError::Listen { address, source })?;
        actix_web::rt::spawn(metrics.run());
    }
    Ok(server.run())
}

fn prepare(connection: &dyn std::any::Any, known: &mut Extensions) {
    use actix_tls::accept::rustls_0_23::TlsStream;
    use actix_web::rt::net::TcpStream;
    let tls = connection.downcast_ref::<TlsStream<TcpStream>>();
    if tls.is_some_and(|tls| tls.get_ref().1.peer_certificates().is_some()) {
        known.insert(ShownCertificate);
    }
    let of_tls = || tls.map(|tls| tls.get_ref().0);
    if let Some(tcp) = connection.downcast_ref::<TcpStream>().or_else(of_tls) {
        let socket = socket2::SockRef::from(tcp);
        // A socket that is gone already fails here, and is noticed by whoever reads it.
        let _ = socket.set_tcp_nodelay(true);
        let _ = socket.set_tcp_user_timeout(Some(STUCK_SOCKET));
    }
}

/// The line that tells people and scripts that the server takes connections, and where.
fn println_ready(state: &State) {
    let url = state.url();
    let mut out = io::stdout();
    // Where standard output is closed nobody waits for it.
    let _ = writeln!(out, "sparkmesh ready on {url}");
    if state.config.mode == crate::config::Mode::Dev {
        let secret: PathBuf = state.config.data_dir.join("secret");
        let _ = writeln!(out, "chat: {url}/");
        let _ = writeln!(out, "room: {url}/room");
        let _ = writeln!(out, "console: {}", state.console_link(now().plus(DEV_KEY_MS)));
        let _ = writeln!(out, "try:  sparkmesh connect --node alice --secret-file {} {url}", secret.display());
    }
    let _ = out.flush();
    log::info!("server {} (start {}) listens on {}", state.site.server, state.incarnation, state.config.listen);
}

/// Returns when somebody wants the server to end. Without TLS there is nothing to reload: SIGHUP is ignored.
async fn end_wanted() {
    let (Ok(mut term), Ok(mut int), Ok(mut hup)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()))
    else {
        // Without signals it ends as the system wants it to.
        return std::future::pending().await;
    };
    loop {
        tokio::select! {
            _ = term.recv() => return,
            _ = int.recv() => return,
            _ = hup.recv() => {}
        }
    }
}
