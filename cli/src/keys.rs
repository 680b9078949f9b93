//! `tidegate pki …`: certificates for gateways elsewhere.

use std::path::PathBuf;

use clap::Subcommand;
use tidegate_link::pki::Authority;
use tidegate_types::GatewayId;

use crate::exit::Failure;
use crate::output::say;

#[derive(Debug, Subcommand)]
pub(crate) enum PkiCommand {
    /// Issue a gateway's certificate from the manager's authority.
    Issue {
        /// The gateway's id.
        #[arg(long)]
        gateway: GatewayId,
        /// Names and addresses by which players reach it (repeatable).
        #[arg(long = "name", value_name = "NAME")]
        names: Vec<String>,
        /// The manager's data folder.
        #[arg(long, default_value = "tidegate-data", value_name = "FOLDER")]
        data_dir: PathBuf,
        /// Where to write ca.pem, gateway.pem and gateway.key.
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
    },
}

pub(crate) fn pki(command: PkiCommand) -> Result<(), Failure> {
    let PkiCommand::Issue { gateway, names, data_dir, out } = command;
    let folder = data_dir.join("pki");
    if !folder.join("ca.pem").exists() {
        return Err(Failure::usage(format!("--data-dir {}: there is no pki/ca.pem", data_dir.display()))
            .hint("name the fleet-manager's data_dir; it makes the authority at its first start"));
    }
    let failed = |error: &dyn std::fmt::Display| Failure::new(crate::exit::Code::Failure, error.to_string());
    let authority = Authority::open_or_create(&folder).map_err(|error| failed(&error))?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let issued = authority.issue(&format!("{gateway}.gateway.tidegate"), &names).map_err(|error| failed(&error))?;
    std::fs::create_dir_all(&out)?;
    std::fs::copy(folder.join("ca.pem"), out.join("ca.pem"))?;
    issued.write(&out, "gateway").map_err(|error| failed(&error))?;
    say(&out.display().to_string())
}
