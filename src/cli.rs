//! The command line: what can be asked of the program, and how it answers a person.
//!
//! Exit codes: 0 done, 2 the command line or the configuration is wrong, 1 anything else.

#![expect(clippy::doc_markdown, reason = "these comments are shown in a terminal, as help")]
#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::bare_urls,
    reason = "these comments are shown in a terminal, as help"
)]

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::app::{self, AppError};
use crate::auth::key::{Claims, Keyring, Role};
use crate::auth::secrets::{SecretError, Secrets};
use crate::config::secret::{NoSecret, SecretSource};
use crate::config::settings::{DEFAULT_DATA_DIR, LogLevel, Settings};
use crate::config::surroundings::Surroundings;
use crate::config::time_span::TimeSpan;
use crate::config::{Config, ConfigError};
use crate::model::ids::{ClientId, Millis, NodeId};
use crate::{bench, client};

/// A real-time messaging mesh with durable inboxes, sessions and push, in one binary.
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server
    ///
    /// Each setting is a flag, an environment variable, or a key of the configuration file (named like the flag,
    /// without the dashes): a flag goes before the environment, that before the file.
    Serve(Box<ServeArgs>),
    /// Make a key (a JWT) for a device, an app or an admin, and print it
    ///
    /// The secret is that of --secret-file, else of SPARKMESH_SECRET, else the one that `sparkmesh serve --dev` made
    /// in the data directory. Any JWT library makes the same keys: HS256, `sub`, `exp`, and if wanted `client_id` and
    /// `role`.
    Key(KeyArgs),
    /// Talk to devices and sessions from a terminal
    Connect(client::connect::Args),
    /// Look at a mesh: its servers and links, who is attached where, and which way messages take
    Mesh(client::mesh::Args),
    /// Measure a server: messages per second, latency, processor time, memory
    Bench(Box<bench::Args>),
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// A TOML file of settings, and of the [push] section
    #[arg(long, env = "SPARKMESH_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print the settings as they would be used, as a configuration file, and exit
    #[arg(long)]
    check: bool,

    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Args)]
struct KeyArgs {
    /// The id of the device (or app, or admin) that the key is for
    #[arg(long, value_name = "ID")]
    node: NodeId,

    /// The user whose device it is
    #[arg(long, value_name = "ID")]
    client: Option<ClientId>,

    /// What the key allows beyond being a device
    #[arg(long, value_enum, ignore_case = true)]
    role: Option<KeyRole>,

    /// How long the key is good, as 90s, 12h or 30d
    #[arg(long, value_name = "TIME", default_value = "30d")]
    ttl: TimeSpan,

    /// The file of secrets, as `serve` has it
    #[arg(long, env = "SPARKMESH_SECRET_FILE", value_name = "FILE")]
    secret_file: Option<PathBuf>,

    /// Where to look for the secret that `serve --dev` made
    #[arg(long, env = "SPARKMESH_DATA_DIR", value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KeyRole {
    /// A back end: acts for any device
    App,
    /// Runs the servers
    Admin,
}

/// What ends the program other than well.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Arguments(#[from] clap::Error),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    NoSecret(#[from] NoSecret),
    #[error("the runtime cannot be started")]
    Runtime(#[source] io::Error),
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
    #[error(transparent)]
    App(#[from] AppError),
    #[error(transparent)]
    Client(#[from] client::ClientError),
    #[error(transparent)]
    Bench(#[from] bench::BenchError),
}

impl CliError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Arguments(error) => error.exit_code() as u8,
            Self::Config(_) | Self::Secret(_) | Self::NoSecret(_) => 2,
            Self::App(error) if error.is_configuration() => 2,
            Self::Runtime(_) | Self::Output(_) | Self::App(_) | Self::Client(_) | Self::Bench(_) => 1,
        }
    }
}

/// Does what `arguments` (the program's name first) ask for, and tells a person on standard error what went wrong.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Err(error) = run(arguments) else { return ExitCode::SUCCESS };
    match &error {
        // Also `--help` and `--version`, which go to standard output. Where that is closed nobody reads it.
        CliError::Arguments(error) => drop(error.print()),
        error => report(error),
    }
    ExitCode::from(error.exit_code())
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<(), CliError> {
    let command = Cli::command().mut_subcommands(|command| command.mut_args(|arg| arg.hide_env_values(true)));
    let matches = command.try_get_matches_from(original_spellings(arguments))?;
    match Cli::from_arg_matches(&matches)?.command {
        Command::Serve(args) => serve(&args),
        Command::Key(args) => key(&args),
        Command::Connect(args) => Ok(block_on(client::connect::run(args))??),
        Command::Mesh(args) => {
            let shown = block_on(client::mesh::run(args))??;
            Ok(io::stdout().write_all(shown.as_bytes())?)
        }
        Command::Bench(args) => Ok(block_on(bench::run(*args))??),
    }
}

fn serve(args: &ServeArgs) -> Result<(), CliError> {
    let around = Surroundings::take();
    let file = args.config.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
    let settings = Settings::layered(&args.settings, file, &around)?;
    let shown = args.check.then(|| settings.to_string());
    let config = Config::resolve(settings, &around)?;
    if let Some(shown) = shown {
        io::stdout().write_all(shown.as_bytes())?;
        return Ok(());
    }
    start_logging(config.log_level);
    let runtime = runtime()?;
    actix_web::rt::System::with_tokio_rt(|| runtime).block_on(app::serve(config))?;
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)
}

/// What a client does; its log would be in the way of what it shows.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, CliError> {
    Ok(runtime()?.block_on(work))
}

fn key(args: &KeyArgs) -> Result<(), CliError> {
    start_logging(None);
    let source = SecretSource::find(args.secret_file.as_deref(), &args.data_dir)?;
    let keyring = Keyring::new(Secrets::load(&source)?);
    let role = match args.role {
        None => Role::Device,
        Some(KeyRole::App) => Role::App,
        Some(KeyRole::Admin) => Role::Admin,
    };
    let claims =
        Claims::new(args.node.clone(), now().plus(args.ttl.millis())).of_client(args.client.clone()).with_role(role);
    writeln!(io::stdout(), "{}", keyring.mint(&claims))?;
    Ok(())
}

fn now() -> Millis {
    Millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64)
}

/// AllSparkRT's flags have underscores (row A49): in the name of a flag they are as good as dashes.
fn original_spellings(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut flags = true;
    let respell = |argument: OsString| {
        flags &= argument != "--";
        match argument.to_str() {
            Some(text) if flags && text.starts_with("--") => {
                let (name, value) = text.split_at(text.find('=').unwrap_or(text.len()));
                format!("{}{value}", name.replace('_', "-")).into()
            }
            _ => argument,
        }
    };
    arguments.into_iter().map(respell).collect()
}

/// To standard error. A level that was set is for this program's own lines; of its libraries only warnings show, unless
/// everything is asked for. `RUST_LOG` counts where no level was set.
fn start_logging(level: Option<LogLevel>) {
    let mut logger = env_logger::Builder::new();
    match level {
        Some(LogLevel::Trace) => logger.filter_level(log::LevelFilter::Trace),
        Some(level) => {
            let own = log::LevelFilter::from(level);
            // A line for each bad request, which are counted in the metrics.
            let quiet = log::LevelFilter::Off;
            logger
                .filter_level(own.min(log::LevelFilter::Warn))
                .filter_module("sparkmesh", own)
                .filter_module("actix_http", quiet)
        }
        None => logger.parse_filters(
            &std::env::var("RUST_LOG").unwrap_or_else(|_| "warn,actix_http=off,sparkmesh=info".to_owned()),
        ),
    };
    // Fails where a logger is there already, and that one will do.
    let _ = logger.try_init();
}

/// An error and what caused it, a line each.
fn report(error: &dyn std::error::Error) {
    let mut text = format!("error: {error}\n");
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = writeln!(text, "  because: {}", error.to_string().trim_end().replace('\n', "\n    "));
        cause = error.source();
    }
    // Nobody is left to tell where standard error is closed.
    let _ = io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn respelt(arguments: &[&str]) -> Vec<String> {
        let arguments = arguments.iter().map(OsString::from);
        original_spellings(arguments).into_iter().map(|one| one.into_string().unwrap()).collect()
    }

    #[test]
    fn underscores_count_as_dashes_in_names_only() {
        assert_eq!(
            respelt(&["serve", "--host_address", "a_b", "--proxy_80_port=my_name", "--", "--x_y"]),
            ["serve", "--host-address", "a_b", "--proxy-80-port=my_name", "--", "--x_y"]
        );
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
