//! A service's main: arguments, config, telemetry, build, serve, drain, exit code.

use crate::admin::{self, AdminState, Extra};
use crate::grpc::{self, GrpcConfig};
use crate::{Exit, Fatal, OrExit as _, Ready, Shutdown, resources, system_clock};
use anyhow::Context as _;
use attune_config::{HumanDuration, Problems};
use attune_telemetry::{
    BackgroundFailed, Clock, Failure, ServiceCutOff, ServiceDraining, ServiceInfo, ServiceReady, ServiceStopped,
    Telemetry, TelemetryConfig,
};
use clap::{Arg, ArgAction, Command};
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tonic::service::Routes;

/// What every service's process has; a service's own config holds it under `process`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessConfig {
    /// `/livez`, `/readyz`, `/metrics`.
    pub admin: SocketAddr,
    pub grpc: GrpcConfig,
    pub telemetry: TelemetryConfig,
    /// Name of this copy in logs and traces; empty takes the host's name.
    pub instance: String,
    /// How long not-ready is shown before new calls are refused, for load balancers to notice.
    pub drain_notice: HumanDuration,
}

impl Default for ProcessConfig {
    fn default() -> Self {
        Self {
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            grpc: GrpcConfig::default(),
            telemetry: TelemetryConfig::default(),
            instance: String::new(),
            drain_notice: HumanDuration::millis(0),
        }
    }
}

/// What a service is, for [`run`].
pub struct Program<C> {
    pub name: &'static str,
    pub version: &'static str,
    /// The compiled-in `config.toml`.
    pub default_config: &'static str,
    pub process: fn(&C) -> &ProcessConfig,
    /// The config's own checks.
    pub check: fn(&C, &mut Problems),
    /// For gRPC reflection.
    pub descriptors: &'static [u8],
}

/// What a service is built with.
#[derive(Clone)]
pub struct Host {
    pub telemetry: Telemetry,
    pub clock: Clock,
    /// Name of this copy of the service.
    pub instance: String,
    pub ready: Ready,
    pub shutdown: Shutdown,
}

/// A built service.
#[derive(Default)]
pub struct Service {
    /// None for a service that does not speak gRPC. A stream that stays open must end at [`Host::shutdown`], or draining
    /// waits for it in vain.
    pub routes: Option<Routes>,
    /// Further routes of the admin port.
    pub admin: Option<Extra>,
    /// Runs beside the server and ends soon after [`Host::shutdown`]; an error ends the process.
    pub background: Vec<BoxFuture<'static, anyhow::Result<()>>>,
    /// After the last call: flush and close stores.
    pub close: Option<BoxFuture<'static, anyhow::Result<()>>>,
}

impl Service {
    pub fn grpc(routes: Routes) -> Self {
        Self { routes: Some(routes), ..Self::default() }
    }
}

/// The whole life of a service's process. `--check-config` and `--print-config` end it early.
pub fn run<C, B, F>(program: Program<C>, build: B) -> ExitCode
where
    C: DeserializeOwned + Serialize,
    B: FnOnce(C, Host) -> F,
    F: Future<Output = anyhow::Result<Service>>,
{
    run_with(std::env::args_os(), program, build)
}

/// [`run`] with these arguments, the program's name first.
pub fn run_with<C, B, F>(arguments: impl IntoIterator<Item = OsString>, program: Program<C>, build: B) -> ExitCode
where
    C: DeserializeOwned + Serialize,
    B: FnOnce(C, Host) -> F,
    F: Future<Output = anyhow::Result<Service>>,
{
    let matches = match command(program.name, program.version).try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version go to stdout and are no mistake. Nobody is left to tell if printing fails.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(Exit::Usage as u8) } else { ExitCode::SUCCESS };
        }
    };
    let overrides: Vec<(String, String)> = matches
        .get_many::<String>("set")
        .into_iter()
        .flatten()
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let file = matches.get_one::<PathBuf>("config").map(PathBuf::as_path);
    let config =
        attune_config::load_checked::<C>(program.name, program.default_config, file, &overrides, program.check);
    let result = match config {
        Err(error) => Err(Fatal::new(Exit::Usage, error).into()),
        Ok(_) if matches.get_flag("check-config") => return ExitCode::SUCCESS,
        Ok(config) if matches.get_flag("print-config") => print(&config),
        Ok(config) => live(program, config, build),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::disallowed_macros, reason = "the one clear line before the process ends")]
            {
                match error.downcast_ref::<Fatal>() {
                    // It tells its causes itself.
                    Some(fatal) => eprintln!("{fatal}"),
                    None => eprintln!("{error:#}"),
                }
            }
            ExitCode::from(Fatal::code_of(&error) as u8)
        }
    }
}

fn command(name: &'static str, version: &'static str) -> Command {
    let pair = |text: &str| match text.split_once('=') {
        Some((key, _)) if !key.is_empty() => Ok(text.to_owned()),
        _ => Err("want key=value, as in cache.size=64MiB"),
    };
    Command::new(name)
        .version(version)
        .arg(Arg::new("config").long("config").value_name("FILE").value_parser(clap::value_parser!(PathBuf)))
        .arg(Arg::new("set").long("set").value_name("KEY=VALUE").action(ArgAction::Append).value_parser(pair))
        .arg(Arg::new("check-config").long("check-config").action(ArgAction::SetTrue))
        .arg(Arg::new("print-config").long("print-config").action(ArgAction::SetTrue))
}

fn print<C: Serialize>(config: &C) -> anyhow::Result<()> {
    use std::io::Write as _;
    let text = attune_config::print_config(config).context("print config")?;
    std::io::stdout().write_all(text.as_bytes()).context("print config")
}

fn live<C, B, F>(program: Program<C>, config: C, build: B) -> anyhow::Result<()>
where
    B: FnOnce(C, Host) -> F,
    F: Future<Output = anyhow::Result<Service>>,
{
    let process = (program.process)(&config).clone();
    let instance = if process.instance.is_empty() { host_name() } else { process.instance.clone() };
    let info = ServiceInfo { service: program.name, version: program.version, instance: instance.clone() };
    let clock = system_clock();
    let (telemetry, guard) = Telemetry::start(&process.telemetry, info, clock.clone()).or_exit(Exit::Usage)?;
    crate::log_panics(&telemetry);
    let host = Host { telemetry, clock, instance, ready: Ready::new(), shutdown: Shutdown::new() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let result = runtime.block_on(serve(&program, process, host, |host| build(config, host)));
    // Blocking work that never ends must not hold the process.
    runtime.shutdown_timeout(Duration::from_secs(2));
    drop(guard);
    result
}

async fn serve<C, F>(
    program: &Program<C>,
    process: ProcessConfig,
    host: Host,
    build: impl FnOnce(Host) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<Service>>,
{
    let Host { telemetry, ready, shutdown, .. } = host.clone();
    shutdown.on_signals().context("listen for signals")?;
    let built = ready.require("service");
    let hub = telemetry.join_bus(&process.telemetry).or_exit(Exit::Usage)?;
    let mut service = build(host).await?;
    if let Some(hub) = &hub {
        service.routes = Some(service.routes.unwrap_or_default().add_service(hub.server()));
    }
    resources::watch(&telemetry, &shutdown).await;
    let state = AdminState { telemetries: vec![telemetry.clone()], ready: ready.clone(), extra: service.admin };
    // Calls, and whatever closes after them, are over long before the admin port goes.
    let linger = process.drain_notice.get() + process.grpc.drain.get() + Duration::from_secs(10);
    let admin = admin::serve(process.admin, state, &shutdown, linger)
        .await
        .with_context(|| format!("listen on admin address {}", process.admin))
        .or_exit(Exit::TryLater)?;
    let stop_serving = Shutdown::new();
    let serving = match service.routes {
        Some(routes) => Some(
            grpc::serve(&process.grpc, routes, program.descriptors, &telemetry, &ready, &stop_serving)
                .await
                .or_exit(Exit::TryLater)?,
        ),
        None => None,
    };
    built.up();
    telemetry.log(&ServiceReady { admin_port: admin.port() }, None);

    let mut background = tokio::task::JoinSet::new();
    service.background.into_iter().for_each(|work| drop(background.spawn(work)));
    let mut failure = None;
    loop {
        tokio::select! {
            () = shutdown.wait() => break,
            Some(ended) = background.join_next() => {
                if let Err(error) = ended.context("background work panicked").and_then(|result| result) {
                    telemetry.log(&BackgroundFailed { failure: Failure::Background }, None);
                    failure = Some(error);
                    break;
                }
            }
        }
    }
    ready.drain();
    telemetry.log(&ServiceDraining {}, None);
    // Background work sees the same moment through its own copy.
    shutdown.trigger();
    tokio::time::sleep(process.drain_notice.get()).await;
    if let Some(hub) = hub {
        hub.close();
    }
    stop_serving.trigger();
    if let Some(serving) = serving
        && let Err(error) = serving.ended().await
    {
        telemetry.log(&ServiceCutOff { failure: Failure::Undrained }, None);
        failure.get_or_insert(error.into());
    }
    let settled = async { while background.join_next().await.is_some() {} };
    if tokio::time::timeout(process.grpc.drain.get(), settled).await.is_err() {
        telemetry.log(&ServiceCutOff { failure: Failure::Background }, None);
        background.shutdown().await;
    }
    if let Some(close) = service.close {
        close.await.context("close the service")?;
    }
    telemetry.log(&ServiceStopped {}, None);
    failure.map_or(Ok(()), Err)
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "local".into() } else { name.trim().into() }
}
